/* What the library's JavaScript asks of C: the host's calls, the vocabulary, masks, and automata. */
#include "host.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "automaton.h"

enum { MOST_TEXT = 128 << 10 }; /* what the host tokenises at once */

JSValue host_callbacks[3];
static aici_trie trie;
static struct { uint32_t token, same; } *twins; /* tokens that the trie leaves out, with the one of the same bytes */
static uint32_t twin_count;
static JSClassID machine_class;

void host_log(const char *text, size_t size) {
  while (size > 0) {
    ssize_t done = write(1, text, size);
    if (done <= 0) return;
    text += done;
    size -= (size_t)done;
  }
}

char *host_blob(uint32_t blob, uint32_t *size) {
  *size = aici_host_read_blob(blob, 0, 0);
  char *data = malloc(*size + 1);
  if (!data) abort();
  aici_host_read_blob(blob, data, *size);
  data[*size] = 0;
  return data;
}

/* The trie's token of these bytes. */
static uint32_t find(const uint8_t *bytes, uint32_t size) {
  uint32_t at = 0, found = AICI_NO_TOKEN;
  for (uint32_t i = 0; i < size; i++) {
    uint32_t end = at + (trie.nodes[2 * at + 1] >> 8), child = at + 1;
    while (child < end && (trie.nodes[2 * child] & 255) != bytes[i]) child += trie.nodes[2 * child + 1] >> 8;
    if (child >= end) return AICI_NO_TOKEN;
    at = child;
    found = trie.nodes[2 * at] >> 8;
  }
  return found;
}

void host_load(void) {
  uint32_t size;
  trie = aici_read_trie(host_blob(aici_host_token_trie(), &size));
  uint32_t words = trie.vocab / 32 + 1, *seen = calloc(words, sizeof *seen);
  if (!seen) abort();
  for (uint32_t i = 0; i < trie.node_count; i++)
    if (trie.nodes[2 * i] >> 8 < trie.vocab) aici_allow(seen, trie.nodes[2 * i] >> 8);
  for (int pass = 0; pass < 2; pass++) {
    uint32_t count = 0;
    for (uint32_t token = 0; token < trie.vocab; token++) {
      if (seen[token >> 5] >> (token & 31) & 1 || !aici_token_size(&trie, token)) continue;
      if (pass) {
        twins[count].token = token;
        twins[count].same = find(aici_token_bytes(&trie, token), aici_token_size(&trie, token));
      }
      count++;
    }
    if (!pass && !(twins = calloc(count + 1, sizeof *twins))) abort();
    twin_count = count;
  }
  free(seen);
}

#define HOST(name) static JSValue name(JSContext *context, JSValueConst self, int count, JSValueConst *arguments)
#define UNUSED (void)self, (void)count

/* Text or bytes of a string, or of a Uint8Array; give back with give_bytes. */
static const uint8_t *take_bytes(JSContext *context, JSValueConst value, size_t *size) {
  if (JS_IsString(value)) return (const uint8_t *)JS_ToCStringLen(context, size, value);
  return JS_GetUint8Array(context, size, value);
}
static void give_bytes(JSContext *context, JSValueConst value, const uint8_t *bytes) {
  if (JS_IsString(value)) JS_FreeCString(context, (const char *)bytes);
}

HOST(host_write) {
  UNUSED;
  size_t size;
  const uint8_t *text = take_bytes(context, arguments[0], &size);
  if (!text) return JS_EXCEPTION;
  host_log((const char *)text, size);
  give_bytes(context, arguments[0], text);
  return JS_UNDEFINED;
}

HOST(host_argument) {
  UNUSED, (void)arguments;
  uint32_t size;
  char *text = host_blob(aici_host_module_arg(), &size);
  JSValue value = JS_NewStringLen(context, text, size);
  free(text);
  return value;
}

HOST(host_tokenize) {
  UNUSED;
  size_t size;
  uint32_t got;
  const uint8_t *text = take_bytes(context, arguments[0], &size);
  if (!text) return JS_EXCEPTION;
  if (size > MOST_TEXT) return JS_ThrowRangeError(context, "a text of more than %d bytes", MOST_TEXT);
  uint32_t blob = aici_host_tokenize(text, (uint32_t)size);
  give_bytes(context, arguments[0], text);
  uint32_t *tokens = (uint32_t *)host_blob(blob, &got);
  JSValue list = JS_NewArray(context);
  for (uint32_t i = 0; i < got / 4; i++) JS_SetPropertyUint32(context, list, i, JS_NewUint32(context, tokens[i]));
  free(tokens);
  return list;
}

HOST(host_detokenize) {
  UNUSED;
  int64_t length;
  if (JS_GetLength(context, arguments[0], &length)) return JS_EXCEPTION;
  uint8_t *bytes = NULL;
  uint32_t size = 0, room = 0;
  for (int64_t i = 0; i < length; i++) {
    uint32_t token;
    JSValue item = JS_GetPropertyUint32(context, arguments[0], (uint32_t)i);
    int failed = JS_ToUint32(context, &token, item);
    JS_FreeValue(context, item);
    if (failed) return free(bytes), JS_EXCEPTION;
    if (token >= trie.vocab) continue;
    uint32_t more = aici_token_size(&trie, token);
    if (!make_room((void **)&bytes, &room, size + more, 1)) return free(bytes), JS_ThrowOutOfMemory(context);
    memcpy(bytes + size, aici_token_bytes(&trie, token), more);
    size += more;
  }
  JSValue array = JS_NewUint8ArrayCopy(context, bytes, size);
  free(bytes);
  return array;
}

HOST(host_storage) {
  UNUSED;
  size_t size;
  uint32_t got;
  const char *command = JS_ToCStringLen(context, &size, arguments[0]);
  if (!command) return JS_EXCEPTION;
  uint32_t blob = aici_host_storage_cmd(command, (uint32_t)size);
  JS_FreeCString(context, command);
  char *answer = host_blob(blob, &got);
  JSValue value = JS_ParseJSON(context, answer, got, "storage");
  free(answer);
  return value;
}

HOST(host_self) {
  UNUSED, (void)arguments;
  return JS_NewUint32(context, aici_host_self_seq_id());
}

HOST(host_config) {
  UNUSED;
  size_t size;
  const char *name = JS_ToCStringLen(context, &size, arguments[0]);
  if (!name) return JS_EXCEPTION;
  uint32_t value = aici_host_get_config(name, (uint32_t)size);
  JS_FreeCString(context, name);
  return JS_NewInt32(context, (int32_t)value);
}

HOST(host_encode) {
  UNUSED;
  size_t size;
  const char *text = JS_ToCStringLen(context, &size, arguments[0]);
  if (!text) return JS_EXCEPTION;
  JSValue array = JS_NewUint8ArrayCopy(context, (const uint8_t *)text, size);
  JS_FreeCString(context, text);
  return array;
}

HOST(host_decode) {
  UNUSED;
  size_t size;
  const uint8_t *bytes = JS_GetUint8Array(context, &size, arguments[0]);
  return bytes ? JS_NewStringLen(context, (const char *)bytes, size) : JS_EXCEPTION;
}

HOST(host_register) {
  UNUSED;
  for (int i = 0; i < 3; i++) host_callbacks[i] = JS_DupValue(context, arguments[i]);
  return JS_UNDEFINED;
}

/* A mask's words; NULL after an exception, as when it is too short. */
static uint32_t *take_mask(JSContext *context, JSValueConst buffer) {
  size_t size;
  uint8_t *words = JS_GetArrayBuffer(context, &size, buffer);
  if (words && size < 4 * (trie.vocab / 32 + 1)) return JS_ThrowRangeError(context, "a mask is too short"), NULL;
  return (uint32_t *)words;
}

HOST(host_mask) {
  UNUSED;
  uint32_t *words = take_mask(context, arguments[0]);
  return words ? JS_NewUint32(context, aici_host_return_logit_bias(words)) : JS_EXCEPTION;
}

HOST(host_count) {
  UNUSED;
  uint32_t *words = take_mask(context, arguments[0]), set = 0;
  if (!words) return JS_EXCEPTION;
  for (uint32_t i = 0; i <= trie.vocab / 32; i++) {
    uint32_t valid = i < trie.vocab / 32 ? UINT32_MAX : (1u << (trie.vocab & 31)) - 1;
    set += (uint32_t)__builtin_popcount(words[i] & valid);
  }
  return JS_NewUint32(context, set);
}

static JSValue wrap(JSContext *context, machine *m, const refusal *why) {
  if (!m) return JS_ThrowSyntaxError(context, "%s", why->reason);
  JSValue object = JS_NewObjectClass(context, (int)machine_class);
  if (JS_IsException(object)) m->destroy(m);
  else JS_SetOpaque(object, m);
  return object;
}

HOST(host_regex) {
  UNUSED;
  refusal why = {{0}};
  size_t size;
  const char *pattern = JS_ToCStringLen(context, &size, arguments[0]), *flags = JS_ToCString(context, arguments[1]);
  machine *m = pattern && flags ? regex_machine(pattern, size, flags, &why) : NULL;
  JS_FreeCString(context, pattern);
  JS_FreeCString(context, flags);
  return wrap(context, m, &why);
}

HOST(host_substring) {
  UNUSED;
  refusal why = {{0}};
  size_t size, end_size;
  const char *text = JS_ToCStringLen(context, &size, arguments[0]), *end = JS_ToCStringLen(context, &end_size, arguments[1]);
  machine *m = text && end ? substring_machine(text, size, end, end_size, &why) : NULL;
  JS_FreeCString(context, text);
  JS_FreeCString(context, end);
  return wrap(context, m, &why);
}

HOST(host_grammar) {
  UNUSED;
  refusal why = {{0}};
  size_t size;
  const char *source = JS_ToCStringLen(context, &size, arguments[0]);
  machine *m = source ? grammar_machine(source, size, &why) : NULL;
  JS_FreeCString(context, source);
  return wrap(context, m, &why);
}

static machine *take_machine(JSContext *context, JSValueConst *arguments, uint32_t *state) {
  machine *m = JS_GetOpaque2(context, arguments[0], machine_class);
  if (!m || JS_ToUint32(context, state, arguments[1])) return NULL;
  if (*state >= m->states) return JS_ThrowRangeError(context, "no such state"), NULL;
  return m;
}

static JSValue told(JSContext *context, const machine *m, JSValue value) {
  return m->why.reason[0] ? JS_ThrowRangeError(context, "%s", m->why.reason) : value;
}

/* aici_allow_where, with the automaton's table at hand: most steps are one look-up. */
static void allow_where(machine *m, uint32_t start, uint32_t *restrict words) {
  static uint32_t path[AICI_DEPTH];
  const uint32_t *restrict nodes = trie.nodes, *table = m->table;
  const uint32_t count = trie.node_count, classes = m->classes;
  uint8_t class_of[256];
  uint32_t depth = 0;
  memcpy(class_of, m->class_of, sizeof class_of);
  path[0] = start;
  for (uint32_t i = 1; i < count;) {
    uint32_t head = nodes[2 * i], tail = nodes[2 * i + 1], state = table[path[depth] * classes + class_of[head & 255]];
    if (state == UNKNOWN) {
      state = machine_next(m, path[depth], (uint8_t)head);
      table = m->table;
    }
    if (state) {
      if (head >> 8 != AICI_NO_TOKEN) aici_allow(words, head >> 8);
      if (tail >> 8 > 1) {
        if (++depth == AICI_DEPTH) abort();
        path[depth] = state;
        i++;
        continue;
      }
    }
    i += tail >> 8;
    depth -= (tail & 255) - 1;
  }
}

HOST(host_allow) {
  UNUSED;
  uint32_t state, *words = take_mask(context, arguments[2]);
  machine *m = words ? take_machine(context, arguments, &state) : NULL;
  if (!m) return JS_EXCEPTION;
  allow_where(m, state, words);
  for (uint32_t i = 0; i < twin_count; i++) {
    uint32_t same = twins[i].same;
    if (same < trie.vocab && words[same >> 5] >> (same & 31) & 1) aici_allow(words, twins[i].token);
  }
  return told(context, m, JS_UNDEFINED);
}

HOST(host_step) {
  UNUSED;
  uint32_t state, token;
  machine *m = take_machine(context, arguments, &state);
  if (!m || JS_ToUint32(context, &token, arguments[2])) return JS_EXCEPTION;
  uint32_t size = token < trie.vocab ? aici_token_size(&trie, token) : 0;
  const uint8_t *bytes = size ? aici_token_bytes(&trie, token) : NULL;
  if (!size) state = 0;
  for (uint32_t i = 0; i < size; i++) state = machine_next(m, state, bytes[i]);
  return told(context, m, JS_NewUint32(context, state));
}

HOST(host_accepts) {
  UNUSED;
  uint32_t state;
  machine *m = take_machine(context, arguments, &state);
  return m ? told(context, m, JS_NewBool(context, m->accepts(m, state) >= 0)) : JS_EXCEPTION;
}

HOST(host_ends) {
  UNUSED;
  uint32_t state;
  machine *m = take_machine(context, arguments, &state);
  return m ? told(context, m, JS_NewBool(context, machine_ends(m, state))) : JS_EXCEPTION;
}

HOST(host_size) {
  UNUSED;
  machine *m = JS_GetOpaque2(context, arguments[0], machine_class);
  return m ? JS_NewUint32(context, m->states * m->classes * (uint32_t)sizeof *m->table) : JS_EXCEPTION;
}

static void forget(JSRuntime *runtime, JSValueConst object) {
  (void)runtime;
  machine *m = JS_GetOpaque(object, machine_class);
  if (m) m->destroy(m);
}

bool host_define(JSContext *context) {
  static const struct { const char *name; JSCFunction *call; int arguments; } CALLS[] = {
      {"write", host_write, 1}, {"argument", host_argument, 0}, {"tokenize", host_tokenize, 1}, {"detokenize", host_detokenize, 1},
      {"storage", host_storage, 1}, {"self", host_self, 0}, {"config", host_config, 1}, {"encode", host_encode, 1},
      {"decode", host_decode, 1}, {"register", host_register, 3}, {"mask", host_mask, 1}, {"count", host_count, 1},
      {"regex", host_regex, 2}, {"substring", host_substring, 2}, {"grammar", host_grammar, 1}, {"allow", host_allow, 3},
      {"step", host_step, 3}, {"accepts", host_accepts, 2}, {"ends", host_ends, 2}, {"size", host_size, 1},
  };
  JSClassDef definition = {.class_name = "Automaton", .finalizer = forget};
  JS_NewClassID(JS_GetRuntime(context), &machine_class);
  if (JS_NewClass(JS_GetRuntime(context), machine_class, &definition) < 0) return false;
  JSValue host = JS_NewObject(context), global = JS_GetGlobalObject(context);
  for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
    JSValue call = JS_NewCFunction(context, CALLS[i].call, CALLS[i].name, CALLS[i].arguments);
    JS_SetPropertyStr(context, host, CALLS[i].name, call);
  }
  JS_SetPropertyStr(context, host, "vocabulary", JS_NewUint32(context, trie.vocab));
  JS_SetPropertyStr(context, host, "eos", JS_NewUint32(context, trie.eos));
  int done = JS_SetPropertyStr(context, global, "__host", host);
  JS_FreeValue(context, global);
  return done >= 0;
}
