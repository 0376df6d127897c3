/**
 * What we use of the package pkcs11js, in our own words: it is optional, and the program must build where it is not. A
 * handle is an opaque number of the module's, in bytes.
 */
export type Handle = Buffer;

export interface Attribute {
  readonly type: number;
  readonly value?: number | boolean | string | Buffer;
}

export interface Library {
  load(path: string): void;
  C_Initialize(options: { readonly flags: number }): void;
  C_GetSlotList(tokenPresent: boolean): Handle[];
  /** The label is padded with blanks. */
  C_GetTokenInfo(slot: Handle): { readonly label: string };
  C_OpenSession(slot: Handle, flags: number): Handle;
  C_GetSessionInfo(session: Handle): unknown;
  C_Login(session: Handle, userType: number, pin: string): void;
  C_FindObjectsInit(session: Handle, template: readonly Attribute[]): void;
  C_FindObjects(session: Handle, most: number): Handle[];
  C_FindObjectsFinal(session: Handle): void;
  C_GetAttributeValue(session: Handle, object: Handle, template: readonly Attribute[]): { readonly value: Buffer }[];
  C_SignInit(session: Handle, mechanism: { readonly mechanism: number }, key: Handle): void;
  /** On a thread of libuv's; the signature is a view of `out`. */
  C_SignAsync(session: Handle, data: Buffer, out: Buffer): Promise<Buffer>;
  C_GenerateKeyPair(
    session: Handle,
    mechanism: { readonly mechanism: number },
    publicKey: readonly Attribute[],
    privateKey: readonly Attribute[],
  ): unknown;
}

// Not a literal in the import, or the compiler would ask for the package.
const packageName: string = 'pkcs11js';

/** Rejects where the package is not installed, or was installed without being compiled. */
export async function newLibrary(): Promise<Library> {
  const { default: pkcs11js } = (await import(packageName)) as { readonly default: { readonly PKCS11: new () => Library } };
  return new pkcs11js.PKCS11();
}
