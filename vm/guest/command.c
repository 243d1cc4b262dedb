// SPDX-License-Identifier: MIT
/*
 * Commands of the connected host: started each in a session of its own, fed and drained within the
 * credit that protocol.h describes, and reported once they end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "protocol.h"

#define PIPE_BYTES (256 * 1024)
#define EXEC_HEADER 16
/* Arguments and settings of one command together. */
#define STRINGS_MAX 4096
#define EXIT_TEXT_MAX 256

/* Our end of the pipe that carries a command's stdout or stderr. */
struct output {
	int fd;		 /* -1 once closed */
	uint32_t credit; /* bytes the host still accepts */
	uint32_t owed;	 /* bytes an ended command had written and that are still to be sent */
};

struct command {
	bool used;
	bool ended;
	bool stdin_eof; /* close stdin once @pending is empty */
	uint32_t id;
	pid_t pid; /* also its process group and session */
	int wait_status;
	int stdin_fd; /* -1 once closed */
	/*
	 * What the command has not taken yet of its input: a ring of STDIN_CREDIT bytes; NULL
	 * without stdin.
	 */
	uint8_t *pending;
	uint32_t pending_start, pending_bytes;
	/* Bytes taken since the host was last told. */
	uint32_t taken;
	struct output out[2];
};

static struct command commands[COMMANDS_MAX];
/* The command served first in this round; moves on so that each has its turn. */
static unsigned int first_turn;

/* What a child tells its parent when it could not become the command. */
struct failure {
	int error;
	bool at_chdir;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct command *find_command(uint32_t id)
{
	for (unsigned int i = 0; i < COMMANDS_MAX; i++)
		if (commands[i].used && commands[i].id == id)
			return &commands[i];
	return NULL;
}

static void forget_command(struct command *command)
{
	close_fd(&command->stdin_fd);
	close_fd(&command->out[0].fd);
	close_fd(&command->out[1].fd);
	free(command->pending);
	memset(command, 0, sizeof(*command));
}

void signal_command(struct command *command, int number)
{
	if (!command->ended)
		kill(-command->pid, number);
}

void kill_commands(void)
{
	for (unsigned int i = 0; i < COMMANDS_MAX; i++) {
		if (!commands[i].used)
			continue;
		signal_command(&commands[i], SIGKILL);
		forget_command(&commands[i]);
	}
}

static bool send_exit(uint32_t id, uint32_t kind, uint32_t value, const char *text)
{
	uint8_t payload[8 + EXIT_TEXT_MAX];
	size_t length = strnlen(text, EXIT_TEXT_MAX);

	put_u32(payload, kind);
	put_u32(payload + 4, value);
	memcpy(payload + 8, text, length);
	return send_frame(FRAME_EXIT, id, payload, 8 + length);
}

/* --- Starting. --- */

static void fail_child(int report, bool at_chdir)
{
	struct failure failure = { .error = errno, .at_chdir = at_chdir };

	/* If even this fails, the status is all the parent learns. */
	_exit(write(report, &failure, sizeof(failure)) == sizeof(failure) ? 127 : 126);
}

/* Runs in the child and never returns. @fds become 0, 1 and 2; everything else closes on exec. */
static void become_command(char **argv, char **env, const char *directory, const int *fds,
			   int report)
{
	sigset_t none;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	if (chdir(directory) < 0)
		fail_child(report, true);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = env;
	execvp(argv[0], argv);
	fail_child(report, false);
}

static int open_pipe(int *ours, int *theirs, bool we_write)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	*ours = ends[we_write];
	*theirs = ends[!we_write];
	/* Larger is faster, and a refusal does no harm. */
	fcntl(*ours, F_SETPIPE_SZ, PIPE_BYTES);
	return fcntl(*ours, F_SETFL, O_NONBLOCK);
}

/* Opens what the command's 0, 1 and 2 will be. The caller closes them, also after a failure. */
static int open_streams(struct command *slot, uint32_t flags, int *theirs)
{
	if (flags & EXEC_STDIN) {
		slot->pending = malloc(STDIN_CREDIT);
		if (!slot->pending || open_pipe(&slot->stdin_fd, &theirs[0], true))
			return -1;
	} else {
		theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (theirs[0] < 0)
			return -1;
	}
	if (open_pipe(&slot->out[0].fd, &theirs[1], false))
		return -1;
	return open_pipe(&slot->out[1].fd, &theirs[2], false);
}

/* Starts a command in @slot; 0, or -1 with errno and what could not be done in *@what. */
static int start_command(struct command *slot, uint32_t flags, char **argv, char **env,
			 const char *directory, const char **what)
{
	int theirs[3] = { -1, -1, -1 }, report[2] = { -1, -1 }, error = 0;
	struct failure failure = { 0 };
	ssize_t got = 0;

	*what = "cannot make pipes";
	if (open_streams(slot, flags, theirs) || pipe2(report, O_CLOEXEC) < 0) {
		error = errno;
		goto out_close;
	}
	*what = "cannot fork";
	slot->pid = fork();
	if (slot->pid < 0) {
		error = errno;
		goto out_close;
	}
	if (slot->pid == 0)
		become_command(argv, env, directory, theirs, report[1]);
	/* The other end closes by itself when exec succeeds. */
	close_fd(&report[1]);
	do {
		got = read(report[0], &failure, sizeof(failure));
	} while (got < 0 && errno == EINTR);
	if (got == sizeof(failure)) {
		error = failure.error;
		*what = failure.at_chdir ? directory : argv[0];
	}
out_close:
	for (int i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	close_fd(&report[0]);
	close_fd(&report[1]);
	errno = error;
	return error ? -1 : 0;
}

/* Takes the next NUL-terminated string of a payload; NULL when there is none. */
static char *next_string(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *start = *at, *nul = memchr(start, '\0', end - start);

	if (!nul)
		return NULL;
	*at = nul + 1;
	return (char *)start;
}

/* Adds to @env each default whose name is not in it. Returns how many there are then. */
static uint32_t add_defaults(char **env, uint32_t count)
{
	static char *const defaults[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"USER=root",
		"SHELL=/bin/sh",
	};
	const uint32_t given = count;

	for (size_t d = 0; d < sizeof(defaults) / sizeof(defaults[0]); d++) {
		size_t name = strcspn(defaults[d], "=") + 1;
		bool found = false;

		for (uint32_t i = 0; i < given && !found; i++)
			found = !strncmp(env[i], defaults[d], name);
		if (!found)
			env[count++] = defaults[d];
	}
	return count;
}

static struct command *free_slot(void)
{
	for (unsigned int i = 0; i < COMMANDS_MAX; i++) {
		if (commands[i].used)
			continue;
		commands[i].stdin_fd = commands[i].out[0].fd = commands[i].out[1].fd = -1;
		return &commands[i];
	}
	return NULL;
}

const char *handle_exec(uint32_t id, const uint8_t *at, size_t bytes)
{
	/* Arguments, NULL, environment with room for the defaults, NULL. */
	static char *strings[STRINGS_MAX + 16];
	const uint8_t *header = at, *end = at + bytes;
	const char *directory, *what;
	struct command *slot;
	uint32_t argc, envc;
	char **env;

	if (bytes < EXEC_HEADER)
		return "EXEC is too short";
	argc = get_u16(header + 12);
	envc = get_u16(header + 14);
	if (argc < 1 || argc + envc > STRINGS_MAX)
		return "EXEC has no arguments, or too many";
	if (get_u32(header + 4) > OUTPUT_CREDIT_MAX || get_u32(header + 8) > OUTPUT_CREDIT_MAX)
		return "EXEC grants too much credit";
	if (find_command(id))
		return "EXEC with an id that is in use";
	at += EXEC_HEADER;
	directory = next_string(&at, end);
	env = strings + argc + 1;
	for (uint32_t i = 0; i < argc; i++)
		strings[i] = next_string(&at, end);
	for (uint32_t i = 0; i < envc; i++)
		env[i] = next_string(&at, end);
	if (!directory || !strings[argc - 1] || (envc && !env[envc - 1]))
		return "EXEC ends early";
	strings[argc] = NULL;
	env[add_defaults(env, envc)] = NULL;

	slot = free_slot();
	if (!slot) {
		send_exit(id, EXIT_NOT_RUN, EAGAIN, "too many commands at once");
		return NULL;
	}
	if (!*directory)
		directory = "/";
	if (start_command(slot, get_u32(header), strings, env, directory, &what)) {
		char text[EXIT_TEXT_MAX];
		int error = errno;

		snprintf(text, sizeof(text), "%.200s: %s", what, strerror(error));
		forget_command(slot);
		send_exit(id, EXIT_NOT_RUN, error, text);
		return NULL;
	}
	slot->out[0].credit = get_u32(header + 4);
	slot->out[1].credit = get_u32(header + 8);
	slot->id = id;
	slot->used = true;
	return NULL;
}

/* --- Input. --- */

/* Moves what the host has sent to the command, and tells the host how much more it may send. */
static void feed_stdin(struct command *command)
{
	uint8_t credit[5] = { 0 };

	while (command->pending_bytes && command->stdin_fd >= 0) {
		uint32_t run = STDIN_CREDIT - command->pending_start;
		ssize_t written;

		if (run > command->pending_bytes)
			run = command->pending_bytes;
		written = write(command->stdin_fd, command->pending + command->pending_start, run);
		if (written < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (written < 0) {
			/* The command reads no more. */
			close_fd(&command->stdin_fd);
			break;
		}
		command->pending_start = (command->pending_start + written) % STDIN_CREDIT;
		command->pending_bytes -= written;
		command->taken += written;
	}
	if (command->stdin_fd < 0) {
		/*
		 * Drop it, and let the host go on sending until it learns that the command has
		 * ended.
		 */
		command->taken += command->pending_bytes;
		command->pending_bytes = 0;
	}
	if (command->stdin_eof && !command->pending_bytes)
		close_fd(&command->stdin_fd);
	put_u32(credit + 1, command->taken);
	if (command->taken && send_frame(FRAME_CREDIT, command->id, credit, sizeof(credit)))
		command->taken = 0;
}

const char *handle_stdin(struct command *command, const uint8_t *bytes, size_t length)
{
	if (!command->pending)
		return "STDIN for a command without one";
	if (length > STDIN_CREDIT - command->pending_bytes)
		return "STDIN beyond its credit";
	while (length) {
		uint32_t at = (command->pending_start + command->pending_bytes) % STDIN_CREDIT;
		size_t run = STDIN_CREDIT - at < length ? STDIN_CREDIT - at : length;

		memcpy(command->pending + at, bytes, run);
		command->pending_bytes += run;
		bytes += run;
		length -= run;
	}
	feed_stdin(command);
	return NULL;
}

void handle_stdin_eof(struct command *command)
{
	command->stdin_eof = true;
	feed_stdin(command);
}

/* --- Output and end. --- */

const char *handle_credit(struct command *command, unsigned int stream, uint32_t bytes)
{
	struct output *output = &command->out[stream];

	if (bytes > OUTPUT_CREDIT_MAX - output->credit)
		return "CREDIT grants too much";
	output->credit += bytes;
	return NULL;
}

/* How much of a stream may be sent now. */
static size_t sendable(const struct command *command, const struct output *output)
{
	size_t bytes = READ_CHUNK;

	if (bytes > output->credit)
		bytes = output->credit;
	if (command->ended && bytes > output->owed)
		bytes = output->owed;
	return output->fd >= 0 && has_room(bytes, false) ? bytes : 0;
}

/* Sends at most one chunk of one stream. */
static void drain_output(struct command *command, int stream)
{
	struct output *output = &command->out[stream];
	size_t want = sendable(command, output);
	ssize_t got;

	if (!want)
		return;
	got = read(output->fd, payload_room(want), want);
	if (got > 0) {
		output->credit -= got;
		output->owed -= command->ended ? got : 0;
		commit_frame(stream ? FRAME_STDERR : FRAME_STDOUT, command->id, got);
	} else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
		close_fd(&output->fd);
		output->owed = 0;
	}
}

/* Says EXIT once everything the command wrote before it ended has been sent. */
static void finish_command(struct command *command)
{
	const int status = command->wait_status;
	bool said;

	if (!command->ended || command->out[0].owed || command->out[1].owed)
		return;
	if (WIFSIGNALED(status))
		said = send_exit(command->id, EXIT_SIGNALLED, WTERMSIG(status), "");
	else
		said = send_exit(command->id, EXIT_STATUS, WEXITSTATUS(status), "");
	if (said)
		forget_command(command);
}

static void end_command(struct command *command, int status)
{
	command->ended = true;
	command->wait_status = status;
	/*
	 * A daemon the command left behind may hold the pipes open for ever: what is in them now is
	 * the command's own output, what comes later is not waited for.
	 */
	for (int stream = 0; stream < 2; stream++) {
		struct output *output = &command->out[stream];
		int bytes = 0;

		if (output->fd >= 0 && ioctl(output->fd, FIONREAD, &bytes) == 0)
			output->owed = bytes;
	}
}

void reap_children(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned int i = 0; i < COMMANDS_MAX; i++)
			if (commands[i].used && !commands[i].ended && commands[i].pid == pid)
				end_command(&commands[i], status);
}

static unsigned int want_poll(struct pollfd *poll, int fd, short events)
{
	*poll = (struct pollfd){ .fd = fd, .events = events };
	return 1;
}

unsigned int poll_commands(struct pollfd *polls)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < COMMANDS_MAX; i++) {
		const struct command *command = &commands[i];

		if (!command->used)
			continue;
		if (command->pending_bytes && command->stdin_fd >= 0)
			count += want_poll(&polls[count], command->stdin_fd, POLLOUT);
		for (int stream = 0; stream < 2; stream++)
			if (sendable(command, &command->out[stream]))
				count += want_poll(&polls[count], command->out[stream].fd, POLLIN);
	}
	return count;
}

void run_commands(void)
{
	for (unsigned int i = 0; i < COMMANDS_MAX; i++) {
		struct command *command = &commands[(first_turn + i) % COMMANDS_MAX];

		if (!command->used)
			continue;
		if (command->pending_bytes || command->taken)
			feed_stdin(command);
		drain_output(command, 0);
		drain_output(command, 1);
		finish_command(command);
	}
	first_turn = (first_turn + 1) % COMMANDS_MAX;
}
