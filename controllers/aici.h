/* What a controller in C needs: the host's functions, the vocabulary, masks, and the numbers of a callback's JSON.
 *
 * Works without a C library. Where each thing is described: docs/reference/controllers.md; a worked example: docs/how-to/controllers.md. */
#ifndef AICI_H
#define AICI_H

#include <stddef.h>
#include <stdint.h>

#define AICI_HOST(name) __attribute__((import_module("env"), import_name(#name))) extern
#define AICI_EXPORT(name) __attribute__((export_name(#name)))

/* The host. Blobs are numbered: a length is asked for with size 0. */
AICI_HOST(aici_host_read_blob) uint32_t aici_host_read_blob(uint32_t blob, void *to, uint32_t size);
AICI_HOST(aici_host_module_arg) uint32_t aici_host_module_arg(void);
AICI_HOST(aici_host_process_arg) uint32_t aici_host_process_arg(void);
AICI_HOST(aici_host_token_trie) uint32_t aici_host_token_trie(void);
AICI_HOST(aici_host_tokenize) uint32_t aici_host_tokenize(const void *text, uint32_t size);
AICI_HOST(aici_host_return_logit_bias) uint32_t aici_host_return_logit_bias(const uint32_t *mask);
AICI_HOST(aici_host_self_seq_id) uint32_t aici_host_self_seq_id(void);
AICI_HOST(aici_host_return_process_result) void aici_host_return_process_result(const void *json, uint32_t size);
AICI_HOST(aici_host_storage_cmd) uint32_t aici_host_storage_cmd(const void *json, uint32_t size);
AICI_HOST(aici_host_eos_token) uint32_t aici_host_eos_token(void);
AICI_HOST(aici_host_get_config) uint32_t aici_host_get_config(const void *name, uint32_t size);
AICI_HOST(aici_host_stop) void aici_host_stop(void);

/* Memory that is never given back: for a controller without malloc. Traps when there is no more. */
extern unsigned char __heap_base;

static inline void *aici_alloc(uint32_t size) {
  static uintptr_t next;
  if (!next) next = (uintptr_t)&__heap_base;
  uintptr_t at = (next + 15) & ~(uintptr_t)15;
  if (size > UINT32_MAX - at) __builtin_trap();
  next = at + size;
  uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
  if (next > have && __builtin_wasm_memory_grow(0, (next - have + 65535) >> 16) == (size_t)-1) __builtin_trap();
  return (void *)at;
}

static inline uint32_t aici_length(const char *text) {
  uint32_t n = 0;
  while (text[n]) n++;
  return n;
}

/* A text being put together, in a buffer of the caller's; what does not fit traps. */
typedef struct {
  char *data;
  uint32_t size, room;
} aici_text;

static inline void aici_put(aici_text *text, const char *more) {
  for (; *more; more++) {
    if (text->size == text->room) __builtin_trap();
    text->data[text->size++] = *more;
  }
}

static inline void aici_put_number(aici_text *text, uint32_t number) {
  char digits[11];
  int at = 10;
  digits[at] = 0;
  do digits[--at] = (char)('0' + number % 10); while (number /= 10);
  aici_put(text, digits + at);
}

static inline void aici_put_tokens(aici_text *text, const uint32_t *tokens, uint32_t count) {
  aici_put(text, "[");
  for (uint32_t i = 0; i < count; i++) {
    if (i) aici_put(text, ",");
    aici_put_number(text, tokens[i]);
  }
  aici_put(text, "]");
}

static inline void aici_return(const char *json) { aici_host_return_process_result(json, aici_length(json)); }
static inline void aici_return_text(const aici_text *text) { aici_host_return_process_result(text->data, text->size); }

/* The list of numbers under `key` in a callback's argument: how many there are, of which at most `room` are written. */
static inline uint32_t aici_numbers(const char *json, uint32_t size, const char *key, uint32_t *to, uint32_t room) {
  uint32_t length = aici_length(key), count = 0;
  for (uint32_t i = 0; i + length + 3 < size; i++) {
    if (json[i] != '"' || json[i + length + 1] != '"') continue;
    uint32_t same = 0;
    while (same < length && json[i + 1 + same] == key[same]) same++;
    if (same < length) continue;
    for (i += length + 2; i < size && json[i] != '['; i++) {}
    for (i++; i < size && json[i] != ']'; i++) {
      if (json[i] < '0' || json[i] > '9') continue;
      uint32_t number = 0;
      for (; i < size && json[i] >= '0' && json[i] <= '9'; i++) number = number * 10 + (uint32_t)(json[i] - '0');
      if (count < room) to[count] = number;
      count++;
      i--;
    }
    return count;
  }
  return 0;
}

/* The vocabulary, as the host's trie has it. */
typedef struct {
  const uint32_t *nodes; /* two words each, in preorder: byte | token << 8, levels to go up after it | nodes under it << 8 */
  uint32_t node_count;
  uint32_t vocab; /* tokens; a mask has (vocab + 31) / 32 words */
  uint32_t eos;
  const uint32_t *offsets; /* of each token: bytes | where << 10 */
  const uint8_t *data;
} aici_trie;

enum { AICI_NO_TOKEN = 0xffffff, AICI_LENGTH_BITS = 10, AICI_TRIE_MAGIC = 0x558b6fd3, AICI_DEPTH = 1024 };

/* Reads the trie from what the host's blob holds; traps when it is none. */
static inline aici_trie aici_read_trie(const void *blob) {
  const uint32_t *header = blob;
  if (header[0] != AICI_TRIE_MAGIC) __builtin_trap();
  const uint8_t *nodes = (const uint8_t *)blob + header[1];
  aici_trie trie = {
      .nodes = (const uint32_t *)nodes,
      .node_count = header[2] / 8,
      .vocab = header[5],
      .eos = header[6],
      .offsets = (const uint32_t *)(nodes + header[2]),
      .data = nodes + header[2] + header[3],
  };
  return trie;
}

/* Reads the host's trie into memory of aici_alloc. */
static inline aici_trie aici_load_trie(void) {
  uint32_t blob = aici_host_token_trie(), size = aici_host_read_blob(blob, 0, 0);
  void *data = aici_alloc(size);
  aici_host_read_blob(blob, data, size);
  return aici_read_trie(data);
}

static inline uint32_t aici_token_size(const aici_trie *trie, uint32_t token) {
  return trie->offsets[token] & ((1u << AICI_LENGTH_BITS) - 1);
}
static inline const uint8_t *aici_token_bytes(const aici_trie *trie, uint32_t token) {
  return trie->data + (trie->offsets[token] >> AICI_LENGTH_BITS);
}
static inline void aici_allow(uint32_t *mask, uint32_t token) { mask[token >> 5] |= 1u << (token & 31); }

/* Adds to `mask` each token whose bytes an automaton takes from `start`: next(machine, state, byte) returns the state that follows, or
 * 0 for none. Visits what the automaton lets live, and of the rest only the first byte. */
__attribute__((always_inline)) static inline void aici_allow_where(
    const aici_trie *trie, uint32_t *mask, void *machine, uint32_t start, uint32_t (*next)(void *, uint32_t, uint8_t)) {
  static uint32_t states[AICI_DEPTH];
  const uint32_t *nodes = trie->nodes;
  uint32_t depth = 0;
  states[0] = start;
  for (uint32_t i = 1; i < trie->node_count;) {
    uint32_t head = nodes[2 * i], tail = nodes[2 * i + 1], under = tail >> 8;
    uint32_t state = next(machine, states[depth], (uint8_t)head);
    if (state) {
      uint32_t token = head >> 8;
      if (token != AICI_NO_TOKEN) aici_allow(mask, token);
      if (under > 1) {
        if (++depth == AICI_DEPTH) __builtin_trap();
        states[depth] = state;
        i++;
        continue;
      }
    }
    i += under;
    depth -= (tail & 255) - 1;
  }
}

#endif
