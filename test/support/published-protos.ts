import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import protobuf from 'protobufjs';

/** The published .proto files that ours are subsets of, from packages that ship them: the judge in tests. */
const require = createRequire(import.meta.url);
const folderOf = (name: string): string => dirname(require.resolve(`${name}/package.json`));
const xds = join(folderOf('@grpc/grpc-js-xds'), 'deps');

export const publishedFolders: readonly string[] = [
  ...['envoy-api', 'googleapis', 'protoc-gen-validate', 'xds'].map((folder) => join(xds, folder)),
  folderOf('protobufjs'),
];
export const healthFolder: string = join(folderOf('grpc-health-check'), 'proto');

export function loadProtos(folders: readonly string[], files: readonly string[]): protobuf.Root {
  const root = new protobuf.Root();
  root.resolvePath = (origin, target) => {
    const found = [...folders.map((folder) => join(folder, target)), join(dirname(origin), target)].find((path) => existsSync(path));
    return found ?? target;
  };
  return root.loadSync([...files], { keepCase: true });
}
