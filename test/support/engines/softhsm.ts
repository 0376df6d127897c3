import { mkdir, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256Hex } from '../../../src/x509/keys.ts';
import { softHsmPrograms } from '../debian-programs.ts';
import { tempFolder } from '../temp.ts';
import { cached, install, runOrFail } from '../test-cache.ts';

/** A token of SoftHSM 2 in a folder of its own, behind a module that can be made to fail. */
export interface SoftHsm extends AsyncDisposable {
  readonly version: string;
  /** SoftHSM's own, and the one that goes to it unless told otherwise. */
  readonly realModule: string;
  readonly module: string;
  readonly tokenLabel: string;
  readonly pin: string;
  readonly pinFile: string;
  /** What a process with the module in it needs. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** From now on; for `running` only in processes that have the module loaded now. `rv` is a CK_RV, 0xdead ends the process. */
  faults(fault: { readonly rv?: number; readonly delayMs?: number; readonly running?: true } | undefined): Promise<void>;
  /** The token's files are away, as when an HSM is unplugged. */
  unplug(): Promise<void>;
  plug(): Promise<void>;
}

const source = fileURLToPath(new URL('./pkcs11-faults.c', import.meta.url));
const includes = fileURLToPath(new URL('../../../node_modules/pkcs11js/includes/pkcs11', import.meta.url));

async function faultModule(): Promise<string> {
  const recipe = sha256Hex(await readFile(source)).slice(0, 16);
  const folder = await cached(`pkcs11-faults-${recipe}`, async (to) => {
    await install('gcc', ['-shared', '-fPIC', '-O1', `-I${includes}`, '-o', join(to, 'pkcs11-faults.so'), source]);
  });
  return join(folder, 'pkcs11-faults.so');
}

export async function startSoftHsm(tokenLabel = 'signet'): Promise<SoftHsm> {
  const [{ util, module: realModule, version }, module] = await Promise.all([softHsmPrograms(), faultModule()]);
  const folder = await tempFolder();
  const [tokens, config, pinFile, faultFile] = ['tokens', 'softhsm2.conf', 'pin', 'faults'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
    string,
  ];
  const pin = 'user-pin-4711';
  await mkdir(tokens);
  await writeFile(config, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`);
  await writeFile(pinFile, `${pin}\n`, { mode: 0o600 });
  const env = { ...process.env, SOFTHSM2_CONF: config, PKCS11_REAL_MODULE: realModule, PKCS11_FAULTS: faultFile };
  await runOrFail(util, ['--init-token', '--free', '--label', tokenLabel, '--pin', pin, '--so-pin', 'so-pin-4711'], { env });
  return {
    version,
    realModule,
    module,
    tokenLabel,
    pin,
    pinFile,
    env,
    async faults(fault) {
      const { rv = 0, delayMs = 0, running } = fault ?? {};
      const before = running ? Date.now() : fault ? Number.MAX_SAFE_INTEGER : 0;
      await writeFile(`${faultFile}.next`, `${rv.toString(16)} ${String(delayMs)} ${String(before)}\n`);
      await rename(`${faultFile}.next`, faultFile);
    },
    async unplug() {
      await rename(tokens, `${tokens}.away`);
      await mkdir(tokens);
    },
    async plug() {
      await rmdir(tokens);
      await rename(`${tokens}.away`, tokens);
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}
