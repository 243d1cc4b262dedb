/** Numbers of kmod/include/uapi/linux/fastio.h and of addon/native/engine.h. */

export const opcodes = {
  accept: 1,
  recv: 2,
  send: 3,
  read: 7,
  write: 8,
  close: 12,
  cancel: 17,
} as const;

/** FASTIO_SQE_*. */
export const sqeFlags = { slot: 1 << 0, multishot: 1 << 1, bufSelect: 1 << 2 } as const;

/** FASTIO_CQE_*. */
export const cqeFlags = { more: 1 << 0, buffer: 1 << 1 } as const;
export const cqeBufferShift = 16;

/** Words of 32 bits. */
export const sqeWords = 16;
export const cqeWords = 4;

/** enum StateWord. */
export const stateWords = {
  sqTail: 0,
  sqHead: 1,
  cqHead: 2,
  cqTail: 3,
  givenBack: 4,
  failed: 5,
  count: 16,
} as const;

/** Upper half of user_data: the result is a descriptor, which is ours until somebody was told of it. */
export const makesDescriptor = 0x80000000;
/** Descriptors from here on cannot be owned by a ring; they are refused. */
export const maxOwned = 65_536;
/** Linux moves no more bytes than this in one call. */
export const maxBytes = 0x7ffff000;

/** From <asm-generic/errno*.h> and <bits/socket.h>, the same on arm64 and x86_64. */
export const errnos = {
  EINTR: 4,
  ENOMEM: 12,
  EFAULT: 14,
  ENFILE: 23,
  EMFILE: 24,
  EPROTO: 71,
  ECONNABORTED: 103,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ECANCELED: 125,
} as const;
export const MSG_WAITALL = 0x100;
export const SOCK_CLOEXEC = 0o2000000;
