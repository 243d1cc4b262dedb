/** An SQE, as far as it is not worked out here. 64-bit fields come in halves. */
export interface Entry {
  readonly opcode: number;
  readonly flags: number;
  readonly fd: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly length: number;
  readonly opFlags: number;
  readonly offsetLow: number;
  readonly offsetHigh: number;
}

/** All fields zero: every entry has the same shape, which keeps writing it fast. */
export const emptyEntry: Entry = {
  opcode: 0,
  flags: 0,
  fd: 0,
  addressLow: 0,
  addressHigh: 0,
  length: 0,
  opFlags: 0,
  offsetLow: 0,
  offsetHigh: 0,
};
