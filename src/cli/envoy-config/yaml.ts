/** A double-quoted YAML scalar: JSON's strings are a subset of YAML's, so no value can break out of its place. */
export function quote(text: string): string {
  return JSON.stringify(text);
}

/** Indents every line but the first and the empty ones, so that `${nested(text, 4)}` can stand after 4 spaces in a template. */
export function nested(text: string, spaces: number): string {
  return text.trimEnd().replaceAll(/\n(?=.)/g, `\n${' '.repeat(spaces)}`);
}

export function socketAddress(address: { readonly host: string; readonly port: number }): string {
  return `{ socket_address: { address: ${quote(address.host)}, port_value: ${address.port} } }`;
}

/** Whether a host is an address rather than a name; an IPv6 address has a colon, a name never. */
export function isIpAddress(host: string): boolean {
  return host.includes(':') || /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
}

/** `host:port` as URIs write it. */
export function authority(address: { readonly host: string; readonly port: number }): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}
