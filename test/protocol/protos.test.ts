import assert from 'node:assert/strict';
import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import protobuf from 'protobufjs';
import { protoRoot } from '../../src/base/proto-files.ts';
import { healthFolder, loadProtos, publishedFolders } from '../support/published-protos.ts';

/** Ours are subsets, so each thing in them must be in the published files with the same number, type and label. */

/** What no published package has. Once one of these is in an oracle, take it out of here: then it is compared. */
const withoutOracle = new Set([
  'istio.v1.auth.IstioCertificateService.CreateCertificate',
  'istio.v1.auth.IstioCertificateRequest.csr',
  'istio.v1.auth.IstioCertificateRequest.validity_duration',
  'istio.v1.auth.IstioCertificateRequest.metadata',
  'istio.v1.auth.IstioCertificateResponse.cert_chain',
]);

/** One line for each field, enum value and method, by full name. */
function describeAll(root: protobuf.Root): Map<string, string> {
  const lines = new Map<string, string>();
  const nameOf = (object: protobuf.ReflectionObject): string => object.fullName.replace(/^\./, '');
  const visit = (object: protobuf.ReflectionObject): void => {
    if (object instanceof protobuf.Type) {
      for (const field of object.fieldsArray) {
        field.resolve();
        const type = field.resolvedType ? nameOf(field.resolvedType) : field.type;
        const label = field instanceof protobuf.MapField ? `map<${field.keyType}> ` : field.repeated ? 'repeated ' : '';
        const oneof = field.partOf ? ` in oneof ${field.partOf.name}` : '';
        lines.set(`${nameOf(object)}.${field.name}`, `${String(field.id)}: ${label}${type}${oneof}`);
      }
    } else if (object instanceof protobuf.Enum) {
      for (const [name, value] of Object.entries(object.values)) lines.set(`${nameOf(object)}.${name}`, String(value));
    } else if (object instanceof protobuf.Service) {
      for (const method of object.methodsArray) {
        method.resolve();
        const side = (stream: boolean | undefined, type: protobuf.Type | null): string =>
          `${stream ? 'stream ' : ''}${type ? nameOf(type) : '?'}`;
        lines.set(
          `${nameOf(object)}.${method.name}`,
          `${side(method.requestStream, method.resolvedRequestType)} -> ${side(method.responseStream, method.resolvedResponseType)}`,
        );
      }
    }
    if (object instanceof protobuf.Namespace) object.nestedArray.forEach(visit);
  };
  visit(root);
  return lines;
}

const files = globSync('{envoy,google,grpc,istio}/**/*.proto', { cwd: protoRoot });
const ours = describeAll(loadProtos([protoRoot], files));
const published = new Map([
  ...describeAll(
    loadProtos(
      publishedFolders,
      files.filter((file) => publishedFolders.some((folder) => existsSync(join(folder, file)))),
    ),
  ),
  ...describeAll(loadProtos([healthFolder], ['health/v1/health.proto'])),
]);

describe('our .proto files against the published ones', () => {
  it('finds both sides', () => {
    assert.ok(files.length >= 9, `only ${String(files.length)} files of ours`);
    assert.ok(ours.has('envoy.extensions.transport_sockets.tls.v3.Secret.validation_context'));
    assert.ok(published.has('envoy.extensions.transport_sockets.tls.v3.Secret.validation_context'));
    assert.ok(published.has('grpc.health.v1.HealthCheckResponse.status'));
  });

  it('agrees on the number, type, label and oneof of each field, on each enum value and on each method', () => {
    for (const [name, line] of ours) {
      if (name.startsWith('google.protobuf.') || withoutOracle.has(name)) continue;
      assert.equal(published.get(name), line, name);
    }
  });

  it('keeps the list of what has no oracle exact', () => {
    for (const name of withoutOracle) {
      assert.ok(ours.has(name), `${name} is listed but no longer ours`);
      assert.ok(!published.has(name), `an oracle has learnt ${name}: compare it`);
    }
  });
});
