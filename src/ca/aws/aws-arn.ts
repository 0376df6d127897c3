/** Where a service is called. */
export interface AwsPlace {
  readonly partition: string;
  readonly region: string;
}

/** What an ARN says (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html). */
export interface AwsArn extends AwsPlace {
  /** `certificate-authority/<id>` or `key/<id>`. */
  readonly resource: string;
}

/** Where the public endpoints of a partition are. Others, without a public description, need `endpoint`. */
const domains: ReadonlyMap<string, string> = new Map([
  ['aws', 'amazonaws.com'],
  ['aws-us-gov', 'amazonaws.com'],
  ['aws-cn', 'amazonaws.com.cn'],
]);

/** What is wrong with the ARN of a resource of this kind, or undefined. */
export function arnProblem(service: 'acm-pca' | 'kms', kind: 'certificate-authority' | 'key', text: string): string | undefined {
  const form = `arn:aws:${service}:REGION:ACCOUNT:${kind}/ID`;
  const arn = readArn(text);
  if (!arn || !text.startsWith(`arn:${arn.partition}:${service}:`)) return `must be an ARN like ${form}`;
  if (arn.resource.startsWith('alias/'))
    return 'is an alias, which can be pointed at another key at any time: give the ARN of the key itself';
  return arn.resource.startsWith(`${kind}/`) ? undefined : `must be an ARN like ${form}`;
}

/** Undefined if it is none. */
export function readArn(text: string): AwsArn | undefined {
  const match = /^arn:(aws[a-z-]{0,20}):[a-z-]{1,30}:([a-z0-9-]{5,40}):\d{12}:([A-Za-z-]{1,40}\/[A-Za-z0-9/_-]{1,256})$/.exec(text);
  const [, partition, region, resource] = match ?? [];
  return partition !== undefined && region !== undefined && resource !== undefined ? { partition, region, resource } : undefined;
}

/** The partition of a region that only its name is known of. */
export function partitionOf(region: string): string {
  if (region.startsWith('cn-')) return 'aws-cn';
  return region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}

/** The public HTTPS endpoint of a service in a region; undefined in a partition that we don't know. */
export function publicEndpoint(service: 'acm-pca' | 'kms', { partition, region }: AwsPlace): URL | undefined {
  const domain = domains.get(partition);
  return domain === undefined ? undefined : new URL(`https://${service}.${region}.${domain}/`);
}
