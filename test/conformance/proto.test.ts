import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { it } from 'node:test';
import protobuf from 'protobufjs';
import { protoRoot } from '../../src/base/proto-files.ts';
import { runProgram } from '../support/process.ts';

it("our workload.proto agrees with go-spiffe's on every method, number, type and label", async () => {
  const goFolder = fileURLToPath(new URL('go/', import.meta.url));
  // The module is in Go's own cache, or is put there by this.
  const listed = await runProgram('go', ['-C', goFolder, 'mod', 'download', '-json', 'github.com/spiffe/go-spiffe/v2'], {
    timeoutMs: 300_000,
  });
  assert.equal(listed.code, 0, listed.stderr);
  const { Dir } = JSON.parse(listed.stdout) as { Dir: string };
  const published = await protobuf.load(join(Dir, 'proto/spiffe/workload/workload.proto'));
  const ours = await protobuf.load(join(protoRoot, 'spiffe/workload.proto'));
  let compared = 0;
  for (const object of ours.nestedArray) {
    if (object instanceof protobuf.Type) {
      const theirs = published.lookupType(object.name);
      const shape = (type: protobuf.Type): unknown =>
        type.fieldsArray.map((field) => [field.name, field.id, field.type, field.repeated, field instanceof protobuf.MapField]);
      assert.deepEqual(shape(object), shape(theirs), object.name);
      compared += object.fieldsArray.length;
    } else if (object instanceof protobuf.Service) {
      const theirs = published.lookupService(object.name);
      for (const method of object.methodsArray) {
        assert.deepEqual(method.toJSON(), theirs.methods[method.name]?.toJSON(), method.name);
        compared++;
      }
      const missing = theirs.methodsArray.map(({ name }) => name).filter((name) => !(name in object.methods));
      assert.deepEqual(missing.toSorted(), ['FetchWITBundles', 'FetchWITSVID']);
    }
  }
  assert.ok(compared > 20, String(compared));
});
