/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the compiler and we expect of a C library. */
#ifndef BARE_MEMORY_H
#define BARE_MEMORY_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t count);
void *memset(void *memory, int byte, size_t count);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

#endif
