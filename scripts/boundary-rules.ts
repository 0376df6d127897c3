import type { ICruiseOptions, IRegularForbiddenRuleType } from 'dependency-cruiser';

// The one direction of imports: a folder may import what is to its left, never a sibling of the same group.
const order = [
  ['base'],
  ['observe', 'spiffe'],
  ['x509', 'config'],
  ['kubernetes'],
  ['identity', 'policy', 'ca', 'store', 'workload'],
  ['issuance', 'trust', 'ledger'],
  ['rotation', 'sds', 'workload-api'],
  ['api', 'web'],
  ['server', 'agent'],
  ['cli'],
];

const direction: IRegularForbiddenRuleType[] = order.flatMap((group, rank) =>
  group.map((folder) => ({
    name: `${folder}-imports-only-left`,
    severity: 'error',
    comment: `src/${folder} may import only folders to its left in the one direction of imports (docs/explanation/architecture.md)`,
    from: { path: `^src/${folder}/` },
    to: { path: '^src/', pathNot: `^src/(${[...order.slice(0, rank).flat(), folder].join('|')})/` },
  })),
);

// Third parties that have one home.
const homes: readonly (readonly [name: string, module: string, home: string])[] = [
  ['pkijs-asn1js', '(pkijs|asn1js)', '^(src/x509/|test/)'],
  ['node-forge', 'node-forge', '^(src/x509/pkcs12\\.ts|test/)'],
  ['grpc-js', '@grpc/(grpc-js|proto-loader)', '^(src/(sds|workload|workload-api|api|server|agent|cli|ca/grpc|ca/plugin)/|test/)'],
  ['prom-client', 'prom-client', '^(src/observe/(agent-)?metrics\\.ts|test/)'],
  ['pkcs11js', 'pkcs11js', '^(src/ca/pkcs11/|test/)'],
  ['aws', '(@aws-sdk|@smithy)', '^(src/ca/aws/|test/)'],
  ['google-auth-library', 'google-auth-library', '^(src/ca/google/|test/)'],
  ['pino', 'pino', '^(src/observe/logger\\.ts|test/)'],
];

const quarantine = homes.map(
  ([name, module, home]): IRegularForbiddenRuleType => ({
    name: `${name}-stays-home`,
    severity: 'error',
    from: { path: '^(src|test|scripts)/', pathNot: home },
    to: { path: `^node_modules/${module}(/|$)` },
  }),
);

export const boundaryRules: { forbidden: IRegularForbiddenRuleType[]; options: ICruiseOptions } = {
  forbidden: [
    ...direction,
    ...quarantine,
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'observe-only-in-roots',
      severity: 'error',
      comment: 'Everybody else takes base/log.ts and plain callbacks.',
      from: { path: '^src/', pathNot: '^src/((observe|server|agent|cli)/|main\.ts$)' },
      to: { path: '^src/observe/' },
    },
    {
      name: 'workload-is-for-services',
      severity: 'error',
      comment: 'The published client library: nothing of the program is built on it.',
      from: { path: '^src/', pathNot: '^src/workload/' },
      to: { path: '^src/workload/' },
    },
    { name: 'src-not-test', severity: 'error', from: { path: '^src/' }, to: { path: '^(test|scripts)/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
