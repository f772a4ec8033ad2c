/* The `host` object: what the library's JavaScript asks of C. */
#ifndef HOST_H
#define HOST_H

#include "../aici.h"
#include "quickjs.h"

/* What the library handed over: initPrompt(argument), begin(argument), answer(). */
extern JSValue host_callbacks[3];

/* Puts the vocabulary into memory; once, before anything else. */
void host_load(void);
/* Sets the global `__host`; false after an exception. */
bool host_define(JSContext *context);
/* A blob in memory of malloc, ended by a zero byte that `size` does not count. */
char *host_blob(uint32_t blob, uint32_t *size);
void host_log(const char *text, size_t size);

#endif
