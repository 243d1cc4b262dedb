// SPDX-License-Identifier: MIT
/*
 * The connection type: what the server's core calls for each client. Bytes go through flows; the type is
 * per connection, so that unix sockets, TLS, the cluster bus and outgoing connections stay what they are,
 * and a connection can become a plain one at any time.
 *
 * Handlers are level-triggered, and run only in process_pending(): there the core expects them, before it
 * writes the AOF and sends replies.
 */
#include "core.h"

/**
 * struct ring_connection - a connection on the rings
 * @conn: the core's part; comes first
 * @flow: the socket
 * @closed: the core has called close
 * @released: and no handler runs any more
 * @gone: the socket is closed
 */
struct ring_connection {
	connection conn;
	struct flow flow;
	bool closed, released, gone;
};

static struct flow *flow_of(connection *conn)
{
	return &((struct ring_connection *)conn)->flow;
}

static connection *connection_of(struct flow *flow)
{
	return &((struct ring_connection *)((char *)flow - offsetof(struct ring_connection, flow)))->conn;
}

/* Whether system calls are to be used: before accept, after detaching, and in children. */
static bool is_plain(connection *conn)
{
	return !flow_of(conn)->lane || rings_are_foreign();
}

/* ------------------------------------------------------------------ from one type to the other */

static connection *create(int fd)
{
	struct ring_connection *made = zcalloc(sizeof(*made));

	made->conn.type = &connection_type;
	made->conn.fd = fd;
	made->conn.state = CONN_STATE_ACCEPTING;
	shim_init_connection(&made->conn);
	flow_init(&made->flow, fd);
	return &made->conn;
}

static connection *create_accepted(SHIM_CREATE_ARGS)
{
#ifdef FASTIO_REDIS
	(void)el;
#endif
	(void)priv;
	return create(fd);
}

/* Gives the connection to the server's own type, handlers included. */
static void become_plain(connection *conn)
{
	ConnectionCallbackFunc on_read = conn->read_handler, on_write = conn->write_handler;
	int barrier = conn->flags & CONN_FLAG_WRITE_BARRIER;
	struct flow *flow = flow_of(conn);

	flow_watch_read(core.rings, flow, false);
	flow_watch_write(core.rings, flow, false);
	/* See write_rest(). */
	aeDeleteFileEvent(server.el, conn->fd, AE_WRITABLE);
	conn->read_handler = conn->write_handler = NULL;
	conn->type = core.tcp;
	if ((on_read && core.tcp->set_read_handler(conn, on_read) == C_ERR) ||
	    (on_write && core.tcp->set_write_handler(conn, on_write, barrier) == C_ERR)) {
		conn->state = CONN_STATE_ERROR;
		conn->last_errno = errno;
		if (conn->private_data)
			freeClientAsync(conn->private_data);
	}
}

static bool has_nothing_to_read(const struct flow *flow)
{
	return !flow->received && !flow->ended && !flow->error;
}

/* Whether nothing is left in a flow that is on no ring. */
static bool is_done(const struct flow *flow)
{
	return !flow->lane && has_nothing_to_read(flow) && !flow_unsent(flow);
}

static void detach(connection *conn)
{
	struct flow *flow = flow_of(conn);

	if (rings_are_foreign())
		return;
	if (flow_detach(core.rings, flow))
		serverLog(LL_WARNING, "FastIO: cannot take fd=%d off the rings: %s", conn->fd, strerror(flow->error));
}

/* ------------------------------------------------------------------ reading and writing */

static int fail(connection *conn, int error)
{
	conn->last_errno = error;
	if (conn->state == CONN_STATE_CONNECTED)
		conn->state = CONN_STATE_ERROR;
	errno = error;
	return -1;
}

static int type_read(connection *conn, void *buf, size_t length)
{
	struct flow *flow = flow_of(conn);
	size_t bytes;

	if (rings_are_foreign())
		return core.tcp->read(conn, buf, length);
	bytes = flow_read(flow, buf, length < INT_MAX ? length : INT_MAX);
	if (bytes)
		return (int)bytes;
	if (flow->ended) {
		conn->state = CONN_STATE_CLOSED;
		return 0;
	}
	if (flow->error)
		return fail(conn, flow->error);
	if (!flow->lane)
		return core.tcp->read(conn, buf, length);
	errno = EAGAIN;
	return -1;
}

static int type_writev(connection *conn, const struct iovec *parts, int count)
{
	struct flow *flow = flow_of(conn);
	size_t bytes, wanted = 0;

	if (flow->error && !rings_are_foreign())
		return fail(conn, flow->error);
	if (is_plain(conn) && (rings_are_foreign() || !flow_unsent(flow)))
		return core.tcp->writev(conn, parts, count);
	bytes = flow->lane ? flow_write(core.rings, flow, parts, count) : 0;
	if (bytes)
		return (int)bytes;
	for (int i = 0; i < count; i++)
		wanted += parts[i].iov_len;
	if (!wanted)
		return 0;
	errno = EAGAIN;
	return -1;
}

static int type_write(connection *conn, const void *data, size_t length)
{
	struct iovec all = { .iov_base = (void *)data, .iov_len = length };

	if (rings_are_foreign())
		return core.tcp->write(conn, data, length);
	return type_writev(conn, &all, 1);
}

static ssize_t sync_write(connection *conn, char *from, ssize_t size, long long timeout)
{
	detach(conn);
	return core.tcp->sync_write(conn, from, size, timeout);
}

static ssize_t sync_read(connection *conn, char *to, ssize_t size, long long timeout)
{
	ssize_t had, rest = 0;

	detach(conn);
	had = (ssize_t)flow_read(flow_of(conn), to, (size_t)size);
	if (had < size)
		rest = core.tcp->sync_read(conn, to + had, size - had, timeout);
	return rest < 0 ? rest : had + rest;
}

static ssize_t sync_readline(connection *conn, char *to, ssize_t size, long long timeout)
{
	ssize_t had = 0;

	detach(conn);
	/* As syncReadLine(): without the end of the line, and with a NUL. */
	while (had < size - 1 && flow_read(flow_of(conn), to + had, 1)) {
		if (to[had] == '\n') {
			to[had] = '\0';
			if (had && to[had - 1] == '\r')
				to[had - 1] = '\0';
			return had;
		}
		to[++had] = '\0';
	}
	if (had < size - 1) {
		ssize_t rest = core.tcp->sync_readline(conn, to + had, size - had, timeout);

		return rest < 0 ? rest : had + rest;
	}
	return had;
}

/* ------------------------------------------------------------------ handlers */

static int set_read_handler(connection *conn, ConnectionCallbackFunc handler)
{
	conn->read_handler = handler;
	if (!rings_are_foreign())
		flow_watch_read(core.rings, flow_of(conn), handler != NULL);
	return C_OK;
}

static int set_write_handler(connection *conn, ConnectionCallbackFunc handler, int barrier)
{
	conn->write_handler = handler;
	/* Write handlers always run before read handlers; the flag is kept for those who look. */
	if (barrier)
		conn->flags |= CONN_FLAG_WRITE_BARRIER;
	else
		conn->flags &= ~CONN_FLAG_WRITE_BARRIER;
	if (!rings_are_foreign())
		flow_watch_write(core.rings, flow_of(conn), handler != NULL);
	return C_OK;
}

/* Returns false when the connection is gone. */
static bool run_handler(connection *conn, ConnectionCallbackFunc handler)
{
	return callHandler(conn, handler);
}

static void after_read(connection *conn)
{
	struct flow *flow = flow_of(conn);
	const client *c = conn->private_data;

	if (c && shim_needs_system_calls(c))
		detach(conn);
	if (is_done(flow))
		become_plain(conn);
	else if (flow->watch_write || !has_nothing_to_read(flow))
		flow_requeue(core.rings, flow);
}

/*
 * Handlers may close any connection and come back here by way of processEventsWhileBlocked(): the lists are
 * taken apart from the front, and never held.
 */
static int run_handlers(void)
{
	struct rings *rings = core.rings;
	size_t writes = rings->writable.length, reads;
	struct flow *flow;
	int count = 0;

	while (writes-- && (flow = flow_next_writable(rings))) {
		connection *conn = connection_of(flow);

		count++;
		if (run_handler(conn, conn->write_handler) && conn->type == &connection_type)
			flow_requeue(rings, flow);
	}
	reads = rings->readable.length;
	while (reads-- && (flow = flow_next_readable(rings))) {
		connection *conn = connection_of(flow);

		count++;
		if (run_handler(conn, conn->read_handler) && conn->type == &connection_type)
			after_read(conn);
	}
	return count;
}

/* What the rings took and did not send goes out before anything else. */
static void write_rest(aeEventLoop *el, int fd, void *privdata, int mask)
{
	connection *conn = privdata;
	struct flow *flow = flow_of(conn);
	int ret = flow_write_rest(flow);

	(void)mask;
	if (ret == -EAGAIN)
		return;
	aeDeleteFileEvent(el, fd, AE_WRITABLE);
	if (ret)
		flow->error = -ret;
	if (is_done(flow))
		become_plain(conn);
	else
		flow_requeue(core.rings, flow);
}

static void abandon(struct flow *flow)
{
	bool closing = flow->closing;
	connection *conn = connection_of(flow);

	flow_abandon(core.rings, flow);
	if (closing)
		return;
	if (is_done(flow)) {
		become_plain(conn);
	} else if (flow_unsent(flow) &&
		   aeCreateFileEvent(server.el, conn->fd, AE_WRITABLE, write_rest, conn) == AE_ERR) {
		flow->error = ENOMEM;
		flow_requeue(core.rings, flow);
	}
}

/* The workers are gone, for @error. */
static void abandon_rings(int error)
{
	struct flow *flow;

	serverLog(LL_WARNING, "FastIO: lost its workers (%s); %zu connections go on with plain sockets",
		  fastio_errno_name(error), core.rings->all.length);
	loop_unhook();
	rings_stop(core.rings);
	core.died = 0;
	while ((flow = flow_list_first(&core.rings->all, offsetof(struct flow, all))))
		abandon(flow);
}

static int process_pending(SHIM_PENDING_ARGS)
{
	if (!core.rings || !SHIM_PENDING_HERE)
		return 0;
	if (core.rings->fio) {
		int error = core.died ? core.died : rings_wait(core.rings, 0, 0);

		if (error)
			abandon_rings(error);
		else if (ProcessingEventsWhileBlocked)
			rings_settle(core.rings);
		else
			rings_harvest(core.rings);
	}
	/* The server's own timer comes round at least once a second. */
	if (core.rings->fio && core.rings->lingering.length)
		rings_expire(core.rings);
	return run_handlers();
}

static int has_pending(SHIM_PENDING_ARGS)
{
	return core.rings && SHIM_PENDING_HERE && (core.rings->readable.length || core.rings->writable.length);
}

/* ------------------------------------------------------------------ beginning and end */

void connection_accept(aeEventLoop *el, int fd, void *privdata, int mask)
{
	bool on_rings = core_open();
	char ip[NET_IP_STR_LEN];
	int port;

	(void)el;
	(void)privdata;
	(void)mask;
	for (int left = server.max_new_conns_per_cycle; left > 0; left--) {
		int accepted = anetTcpAccept(server.neterr, fd, ip, sizeof(ip), &port);

		if (accepted == ANET_ERR) {
			if (shim_retry_accept(errno))
				continue;
			if (errno != EWOULDBLOCK)
				serverLog(LL_WARNING, "Accepting client connection: %s", server.neterr);
			return;
		}
		serverLog(LL_VERBOSE, "Accepted %s:%d", ip, port);
		shim_keep_alive(accepted);
		core.accepted++;
		core.plain += !on_rings;
		shim_accepted(on_rings ? create(accepted) : shim_create_plain(core.tcp, accepted), ip);
	}
}

static int type_accept(connection *conn, ConnectionCallbackFunc handler)
{
	int ret = C_OK;

	if (conn->state != CONN_STATE_ACCEPTING)
		return C_ERR;
	conn->state = CONN_STATE_CONNECTED;
	if (!core.rings->fio || flow_attach(core.rings, flow_of(conn))) {
		core.plain++;
		become_plain(conn);
	}
	connIncrRefs(conn);
	if (!callHandler(conn, handler))
		ret = C_ERR;
	connDecrRefs(conn);
	return ret;
}

static void free_connection(struct ring_connection *conn)
{
	if (conn->released && conn->gone)
		zfree(conn);
}

/* The rings let go of the socket of a connection that was closed. */
void connection_gone(struct flow *flow)
{
	struct ring_connection *conn = (struct ring_connection *)connection_of(flow);

	conn->gone = true;
	free_connection(conn);
}

static void type_close(connection *conn)
{
	struct ring_connection *ours = (struct ring_connection *)conn;

	if (rings_are_foreign()) {
		core.tcp->close(conn);
		return;
	}
	if (!ours->closed) {
		ours->closed = true;
		core.turned_away += conn->state == CONN_STATE_ACCEPTING;
		/* See write_rest(). */
		if (!ours->flow.lane)
			aeDeleteFileEvent(server.el, conn->fd, AE_WRITABLE);
		conn->fd = -1;
		flow_close(core.rings, &ours->flow);
	}
	/* Called from within a handler: the structure is still in use. */
	if (connHasRefs(conn)) {
		conn->flags |= CONN_FLAG_CLOSE_SCHEDULED;
		return;
	}
	ours->released = true;
	free_connection(ours);
}

static void type_shutdown(connection *conn)
{
	if (conn->fd == -1)
		return;
	if (is_plain(conn))
		core.tcp->shutdown(conn);
	else
		flow_shutdown(flow_of(conn));
}

/* ------------------------------------------------------------------ as TCP */

static int type_listen(connListener *listener)
{
	return core.tcp->listen(listener);
}

#ifdef FASTIO_VALKEY
static void close_listener(connListener *listener)
{
	core.tcp->closeListener(listener);
}

static connection *create_outgoing(void)
{
	return core.tcp->conn_create();
}
#else
static connection *create_outgoing(struct aeEventLoop *el)
{
	return core.tcp->conn_create(el);
}

/* Threads that do I/O are off: see refuse() in module.c. */
static void unbind_event_loop(connection *conn)
{
	(void)conn;
}

static int rebind_event_loop(connection *conn, aeEventLoop *el)
{
	(void)conn;
	return el == server.el ? C_OK : C_ERR;
}
#endif

static int type_address(connection *conn, char *ip, size_t length, int *port, int remote)
{
	return core.tcp->addr(conn, ip, length, port, remote);
}

static int type_is_local(connection *conn)
{
	return core.tcp->is_local(conn);
}

static const char *type_last_error(connection *conn)
{
	return strerror(conn->last_errno);
}

static const char *type_name(connection *conn)
{
	(void)conn;
	return "fastio";
}

/* Connections of this type are only ever accepted: create_outgoing() makes others. */
static int type_connect(connection *conn, const char *address, int port, const char *source,
			ConnectionCallbackFunc handler)
{
	(void)address;
	(void)port;
	(void)source;
	(void)handler;
	fail(conn, EISCONN);
	return C_ERR;
}

static int type_blocking_connect(connection *conn, const char *address, int port, long long timeout)
{
	(void)address;
	(void)port;
	(void)timeout;
	fail(conn, EISCONN);
	return C_ERR;
}

ConnectionType connection_type = {
	.get_type = type_name,
	.accept_handler = connection_accept,
	.addr = type_address,
	.is_local = type_is_local,
	.listen = type_listen,
#ifdef FASTIO_VALKEY
	.closeListener = close_listener,
#else
	.unbind_event_loop = unbind_event_loop,
	.rebind_event_loop = rebind_event_loop,
#endif
	.conn_create = create_outgoing,
	.conn_create_accepted = create_accepted,
	.shutdown = type_shutdown,
	.close = type_close,
	.connect = type_connect,
	.blocking_connect = type_blocking_connect,
	.accept = type_accept,
	.write = type_write,
	.writev = type_writev,
	.read = type_read,
	.set_write_handler = set_write_handler,
	.set_read_handler = set_read_handler,
	.get_last_error = type_last_error,
	.sync_write = sync_write,
	.sync_read = sync_read,
	.sync_readline = sync_readline,
	.has_pending_data = has_pending,
	.process_pending_data = process_pending,
};
