import { SignetError } from '../base/errors.ts';
import { bytesField, doubleField, entryField, smallField, textField } from '../base/wire-writer.ts';

/** Field numbers of google.protobuf.Struct, Value and ListValue. */
const fieldsOfStruct = 1;
const value = { null: 1, number: 2, string: 3, bool: 4, struct: 5, list: 6 } as const;
const valuesOfList = 1;

/** Readers of protobuf refuse nesting beyond a hundred messages, and one level of JSON is up to three of them. */
const deepest = 32;

/**
 * A JSON object, as JSON.parse gives it, as google.protobuf.Struct. Its numbers are doubles, as JavaScript's are, so that
 * nothing is lost here. Throws INVALID_ARGUMENT for what nests too deep.
 */
export function encodeStruct(object: Readonly<Record<string, unknown>>, depth = 0): Buffer {
  if (depth > deepest) throw new SignetError('INVALID_ARGUMENT', `claims nest deeper than ${String(deepest)} levels`);
  return Buffer.concat(
    Object.entries(object).map(([key, member]) => entryField(fieldsOfStruct, key.toWellFormed(), encodeValue(member, depth))),
  );
}

function encodeValue(member: unknown, depth: number): Buffer {
  // Half of a surrogate pair has no UTF-8, and a reader refuses the whole message for it.
  if (typeof member === 'string') return textField(value.string, member.toWellFormed());
  if (typeof member === 'number') return doubleField(value.number, member);
  if (typeof member === 'boolean') return smallField(value.bool, member ? 1 : 0);
  if (Array.isArray(member)) return bytesField(value.list, encodeList(member, depth + 1));
  if (typeof member === 'object' && member !== null)
    return bytesField(value.struct, encodeStruct(member as Readonly<Record<string, unknown>>, depth + 1));
  return smallField(value.null, 0);
}

function encodeList(list: readonly unknown[], depth: number): Buffer {
  if (depth > deepest) throw new SignetError('INVALID_ARGUMENT', `claims nest deeper than ${String(deepest)} levels`);
  return Buffer.concat(list.map((member) => bytesField(valuesOfList, encodeValue(member, depth))));
}
