/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM fastio

#if !defined(FASTIO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define FASTIO_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(fastio_submit,
	TP_PROTO(u64 ctx, u32 ring, u8 opcode, u8 flags, s32 fd, u64 user_data),
	TP_ARGS(ctx, ring, opcode, flags, fd, user_data),
	TP_STRUCT__entry(
		__field(u64, ctx)
		__field(u32, ring)
		__field(u8, opcode)
		__field(u8, flags)
		__field(s32, fd)
		__field(u64, user_data)
	),
	TP_fast_assign(
		__entry->ctx = ctx;
		__entry->ring = ring;
		__entry->opcode = opcode;
		__entry->flags = flags;
		__entry->fd = fd;
		__entry->user_data = user_data;
	),
	TP_printk("ctx=%llu ring=%u opcode=%u flags=0x%x fd=%d user_data=0x%llx",
		  __entry->ctx, __entry->ring, __entry->opcode, __entry->flags, __entry->fd,
		  __entry->user_data)
);

TRACE_EVENT(fastio_complete,
	TP_PROTO(u64 ctx, u32 ring, u64 user_data, s32 res, u32 flags),
	TP_ARGS(ctx, ring, user_data, res, flags),
	TP_STRUCT__entry(
		__field(u64, ctx)
		__field(u32, ring)
		__field(u64, user_data)
		__field(s32, res)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->ctx = ctx;
		__entry->ring = ring;
		__entry->user_data = user_data;
		__entry->res = res;
		__entry->flags = flags;
	),
	TP_printk("ctx=%llu ring=%u user_data=0x%llx res=%d flags=0x%x",
		  __entry->ctx, __entry->ring, __entry->user_data, __entry->res, __entry->flags)
);

/* Hooks were installed in the wait queues of a file; mask: events that were ready already. */
TRACE_EVENT(fastio_arm,
	TP_PROTO(u64 ctx, u32 ring, u8 kind, u32 mask, int err),
	TP_ARGS(ctx, ring, kind, mask, err),
	TP_STRUCT__entry(
		__field(u64, ctx)
		__field(u32, ring)
		__field(u8, kind)
		__field(u32, mask)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->ctx = ctx;
		__entry->ring = ring;
		__entry->kind = kind;
		__entry->mask = mask;
		__entry->err = err;
	),
	TP_printk("ctx=%llu ring=%u kind=%u mask=0x%x err=%d",
		  __entry->ctx, __entry->ring, __entry->kind, __entry->mask, __entry->err)
);

DECLARE_EVENT_CLASS(fastio_ring,
	TP_PROTO(u64 ctx, u32 ring),
	TP_ARGS(ctx, ring),
	TP_STRUCT__entry(
		__field(u64, ctx)
		__field(u32, ring)
	),
	TP_fast_assign(
		__entry->ctx = ctx;
		__entry->ring = ring;
	),
	TP_printk("ctx=%llu ring=%u", __entry->ctx, __entry->ring)
);

/* The server of the ring goes to sleep. */
DEFINE_EVENT(fastio_ring, fastio_sleep,
	TP_PROTO(u64 ctx, u32 ring),
	TP_ARGS(ctx, ring)
);

/* It has been woken. */
DEFINE_EVENT(fastio_ring, fastio_wake,
	TP_PROTO(u64 ctx, u32 ring),
	TP_ARGS(ctx, ring)
);

#endif /* FASTIO_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
