import { defineCsr } from './ca/csr.ts';
import { defineImport } from './ca/import.ts';
import { defineInit } from './ca/init.ts';
import { defineSign } from './ca/sign.ts';
import type { DefineCommand } from './session.ts';

export const define: DefineCommand = (command, session) => {
  defineInit(command.command('init'), session);
  defineCsr(command.command('csr'), session);
  defineSign(command.command('sign'), session);
  defineImport(command.command('import'), session);
  command.addHelpText(
    'after',
    `
All of it works without a server. A root that stays online takes one step, a root that is offline three:
  $ signet ca init ...     a root of your own: its key is made where it stays
  $ signet ca csr ...      on the server's host: the intermediate's key, and a request
  $ signet ca sign ...     where the root's key is; OpenSSL or your company's CA does as well
  $ signet ca import ...   on the server's host: checks what came back, and writes it down`,
  );
};
