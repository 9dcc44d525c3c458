/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "memory.h"

void *memcpy(void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *memory, int byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((char *)memory)[i] = (char)byte;
    return memory;
}

size_t strlen(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    return length;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a - *b;
}
