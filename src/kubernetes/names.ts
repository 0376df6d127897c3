import { z } from 'zod';

/** What the API server takes as names (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/). */
export const objectName = () => z.string().regex(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/, 'must be the name of an object of Kubernetes');
export const namespaceName = () => z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'must be the name of a namespace');
