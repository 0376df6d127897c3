/** What a stream may be sent now: a whole message, or why there is none. */
export type Message = Buffer | 'pending' | 'denied';

/**
 * The message of a state, encoded once and shared by all of its streams: asked again without a change, it gives the same
 * Buffer, also where the source made a new object of the same content. So a stream knows by identity whether there is news.
 */
export function published<State extends object>(read: () => State | 'pending' | 'denied', encode: (state: State) => Buffer): () => Message {
  let last: { readonly state: State; readonly message: Buffer } | undefined;
  return () => {
    const state = read();
    if (typeof state === 'string') {
      // A message may hold private keys: an identity that was taken away is not kept.
      if (state === 'denied') last = undefined;
      return state;
    }
    if (last?.state === state) return last.message;
    const made = encode(state);
    const message = last?.message.equals(made) === true ? last.message : made;
    last = { state, message };
    return message;
  };
}
