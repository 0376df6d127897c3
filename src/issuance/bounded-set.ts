/** A set that forgets its oldest members beyond `limit`: for facts that are cheap to look up again. */
export interface BoundedSet {
  has(member: string): boolean;
  add(member: string): void;
}

export function createBoundedSet(limit: number): BoundedSet {
  const members = new Set<string>();
  return {
    has: (member) => members.has(member),
    add(member) {
      members.add(member);
      if (members.size <= limit) return;
      const oldest = members.values().next();
      if (!oldest.done) members.delete(oldest.value);
    },
  };
}
