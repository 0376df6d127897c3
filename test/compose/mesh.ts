import { fileURLToPath } from 'node:url';
import { eventually } from '../support/eventually.ts';
import { normalSerial } from '../support/envoy.ts';
import type { LoadLine } from '../../src/cli/demo/load.ts';
import type { DockerEngine } from './engine/docker-engine.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Container {
  readonly service: string;
  readonly state: string;
  readonly health: string;
  readonly exitCode: number;
  readonly id: string;
}

/** The demo mesh as `docker compose` runs it. */
export interface ComposedMesh {
  /** `docker compose ARGS` in the project; throws unless it ends with 0. Gives stdout. */
  run(args: readonly string[], timeoutMs?: number): Promise<string>;
  containers(): Promise<readonly Container[]>;
  /** HOST:PORT on this host of a port of a service. */
  published(service: string, port: number): Promise<string>;
  /** Serials that an Envoy serves now, by its /certs. */
  servedSerials(envoy: string): Promise<readonly string[]>;
  /** What the load generator has printed. */
  load(): Promise<readonly LoadLine[]>;
}

export function composedMesh(engine: DockerEngine): ComposedMesh {
  const project = ['--project-directory', root, '--file', `${root}docker-compose.yml`, '--file', `${root}test/compose/override.yml`];
  const addresses = new Map<string, string>();

  async function run(args: readonly string[], timeoutMs?: number): Promise<string> {
    const ran = await engine.compose([...project, ...args], timeoutMs);
    if (ran.code === 0) return ran.stdout;
    throw new Error(`docker compose ${args.join(' ')} failed (${String(ran.code)}): ${ran.stderr.slice(-3000)}`);
  }

  async function published(service: string, port: number): Promise<string> {
    const key = `${service}:${String(port)}`;
    const known = addresses.get(key);
    if (known !== undefined) return known;
    const address = (await run(['port', service, String(port)])).trim();
    addresses.set(key, address);
    return address;
  }

  return {
    run,
    published,
    async containers() {
      const lines = (await run(['ps', '--all', '--format', 'json'])).trim().split('\n');
      return lines
        .filter((line) => line !== '')
        .map((line) => {
          const { Service, State, Health, ExitCode, ID } = JSON.parse(line) as Record<'Service' | 'State' | 'Health' | 'ID', string> & {
            readonly ExitCode: number;
          };
          return { service: Service, state: State, health: Health, exitCode: ExitCode, id: ID };
        });
    },
    async servedSerials(envoy) {
      const address = await published(envoy, 9901);
      const response = await fetch(`http://${address}/certs`, { signal: AbortSignal.timeout(5000) });
      const page = (await response.json()) as {
        readonly certificates: readonly { readonly cert_chain: readonly { readonly serial_number: string }[] }[];
      };
      return page.certificates.flatMap(({ cert_chain: [leaf] }) => (leaf ? [normalSerial(leaf.serial_number)] : []));
    },
    async load() {
      const lines = (await run(['logs', '--no-log-prefix', 'load'])).trim().split('\n');
      return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LoadLine);
    },
  };
}

export interface SerialWatch {
  /** Looks until every Envoy has served so many serials; gives how many each had. */
  until(wanted: number, ms: number): Promise<ReadonlyMap<string, number>>;
}

/** What the Envoys serve, by their /certs, counted from the first look on. */
export function watchSerials(mesh: ComposedMesh, envoys: readonly string[]): SerialWatch {
  const seen = new Map(envoys.map((envoy) => [envoy, new Set<string>()]));

  async function look(): Promise<void> {
    await Promise.all(
      [...seen].map(async ([envoy, serials]) => {
        for (const serial of await mesh.servedSerials(envoy)) serials.add(serial);
      }),
    );
  }

  return {
    async until(wanted, ms) {
      const enough = async (): Promise<true | undefined> => {
        await look();
        return [...seen.values()].every((serials) => serials.size >= wanted) ? true : undefined;
      };
      await eventually(`${String(wanted)} certificates in every Envoy`, enough, ms, 1000);
      return new Map([...seen].map(([envoy, serials]) => [envoy, serials.size]));
    },
  };
}
