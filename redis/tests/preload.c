// SPDX-License-Identifier: MIT
/*
 * Preloaded into Debian's servers before the address sanitizer's library.
 *
 * The functions of jemalloc's own that they call, on top of malloc(), so that all memory comes from the
 * sanitizer: memory of one allocator cannot be freed by the other. And dlopen() without RTLD_DEEPBIND, which
 * the sanitizer refuses.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void *mallocx(size_t size, int flags);
void *rallocx(void *memory, size_t size, int flags);
void dallocx(void *memory, int flags);
void sdallocx(void *memory, size_t size, int flags);
size_t nallocx(size_t size, int flags);
int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
void malloc_stats_print(void (*write)(void *, const char *), void *data, const char *options);

void *mallocx(size_t size, int flags)
{
	(void)flags;
	return malloc(size);
}

void *rallocx(void *memory, size_t size, int flags)
{
	(void)flags;
	return realloc(memory, size);
}

void dallocx(void *memory, int flags)
{
	(void)flags;
	free(memory);
}

void sdallocx(void *memory, size_t size, int flags)
{
	(void)size;
	(void)flags;
	free(memory);
}

size_t nallocx(size_t size, int flags)
{
	(void)flags;
	return size;
}

/* There is nothing to control; every number is 0. */
int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size)
{
	(void)name;
	(void)new;
	(void)new_size;
	if (old && old_size)
		memset(old, 0, *old_size);
	return 0;
}

void malloc_stats_print(void (*write)(void *, const char *), void *data, const char *options)
{
	(void)write;
	(void)data;
	(void)options;
}

void *dlopen(const char *path, int flags)
{
	void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");

	return next(path, flags & ~RTLD_DEEPBIND);
}
