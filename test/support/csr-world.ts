import { publishRoots, startCsrSigner } from './engines/csr-signer.ts';
import type { CsrSigner } from './engines/csr-signer.ts';
import { startKubeApiServer } from './engines/kube-apiserver.ts';
import type { KubeApiServer } from './engines/kube-apiserver.ts';
import { projectToken } from './kubernetes-caller.ts';
import { pagePermissions, pageSettings } from './page-text.ts';
import { tempFolder } from './temp.ts';

const page = 'ca-kubernetes-csr.md';

/** What docs/how-to/ca-kubernetes-csr.md sets up: an API server, a signer, and Signet's account with the permissions there. */
export interface CsrWorld extends AsyncDisposable {
  readonly kube: KubeApiServer;
  readonly signer: CsrSigner;
  /** The backend of that page, outside of the cluster. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * The API can't be asked for less than ten minutes. So the signer has a policy of its own: `/ns/shop/` gets `shortMs` at most,
 * whatever is asked for.
 */
export async function csrWorld({ shortMs }: { readonly shortMs: number }): Promise<CsrWorld> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await tempFolder());
  const kube = opened.use(await startKubeApiServer());
  const signer = opened.use(
    await startCsrSigner(kube, { longestMs: (spiffeId) => (spiffeId.includes('/ns/shop/') ? shortMs : undefined) }),
  );
  await publishRoots(kube, signer.roots());
  const { kubeconfig } = await projectToken(kube, folder, 'signet', 'signet');
  await kube.apply(await pagePermissions(page));
  const { ca } = await pageSettings(page);
  const held = opened.move();
  return {
    kube,
    signer,
    settings: { ...ca?.backends?.['cluster'], kubeconfig },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
