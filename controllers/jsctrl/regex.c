/* Patterns as non-deterministic automata over bytes: JavaScript's syntax without what needs memory of the match. */
#include "automaton.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_REPEATS = 1000, MOST_GROUPS = 100, MOST_CODE = 0x10ffff };

uint32_t nfa_node(nfa *n, uint32_t kind, uint32_t to, uint32_t other) {
  if (n->count >= MOST_NODES) refuse(&n->why, "the pattern is too large: more than %d places", MOST_NODES);
  else if (!make_room((void **)&n->nodes, &n->room, n->count + 1, sizeof *n->nodes)) refuse(&n->why, "no memory for the pattern");
  else {
    n->nodes[n->count] = (node){kind, to, other};
    return n->count++;
  }
  return 0;
}

uint32_t nfa_set(nfa *n, const uint8_t *set) {
  for (uint32_t i = n->set_count; i-- > 0;)
    if (!memcmp(n->sets[i], set, 32)) return i;
  if (!make_room((void **)&n->sets, &n->set_room, n->set_count + 1, sizeof *n->sets)) {
    refuse(&n->why, "no memory for the pattern");
    return 0;
  }
  memcpy(n->sets[n->set_count], set, 32);
  return n->set_count++;
}

void nfa_free(nfa *n) {
  free(n->nodes);
  free(n->sets);
  memset(n, 0, sizeof *n);
}

/* A piece of the automaton: `end` is an EMPTY node whose way on is not set yet. */
typedef struct { uint32_t start, end; } piece;
typedef struct {
  nfa *n;
  const char *text;
  size_t size, at;
  int depth;
  bool any_case, dot_all;
} reader;

static piece alternatives(reader *r);

static void add(uint8_t *set, unsigned byte) { set[byte >> 3] |= (uint8_t)(1u << (byte & 7)); }
static bool has(const uint8_t *set, unsigned byte) { return set[byte >> 3] >> (byte & 7) & 1; }
static void add_range(uint8_t *set, unsigned from, unsigned to) {
  for (; from <= to; from++) add(set, from);
}

static void both_cases(uint8_t *set) {
  for (unsigned byte = 'a'; byte <= 'z'; byte++) {
    if (has(set, byte) || has(set, byte - 32)) add(set, byte), add(set, byte - 32);
  }
}

static piece empty(reader *r) {
  uint32_t at = nfa_node(r->n, NODE_EMPTY, 0, 0);
  return (piece){at, at};
}

static piece bytes(reader *r, uint8_t *set) {
  if (r->any_case) both_cases(set);
  uint32_t end = nfa_node(r->n, NODE_EMPTY, 0, 0);
  return (piece){nfa_node(r->n, NODE_BYTES, end, nfa_set(r->n, set)), end};
}

static piece then(reader *r, piece a, piece b) {
  if (r->n->why.reason[0]) return a;
  r->n->nodes[a.end].to = b.start;
  return (piece){a.start, b.end};
}

static piece either(reader *r, piece a, piece b) {
  uint32_t end = nfa_node(r->n, NODE_EMPTY, 0, 0), start = nfa_node(r->n, NODE_FORK, a.start, b.start);
  if (r->n->why.reason[0]) return a;
  r->n->nodes[a.end].to = r->n->nodes[b.end].to = end;
  return (piece){start, end};
}

static piece maybe(reader *r, piece a, bool again) {
  uint32_t end = nfa_node(r->n, NODE_EMPTY, 0, 0), fork = nfa_node(r->n, NODE_FORK, a.start, end);
  if (r->n->why.reason[0]) return a;
  r->n->nodes[a.end].to = again ? fork : end;
  return (piece){fork, end};
}

static unsigned encode(uint32_t code, uint8_t *to) {
  if (code < 0x80) return to[0] = (uint8_t)code, 1;
  unsigned size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (unsigned i = size - 1; i > 0; i--, code >>= 6) to[i] = (uint8_t)(0x80 | (code & 63));
  to[0] = (uint8_t)((0xf00 >> size & 0xff) | code);
  return size;
}

/* Characters from..to above ASCII, as the sequences of bytes that UTF-8 makes of them; put beside `before` where there is one. */
static piece codes(reader *r, uint32_t from, uint32_t to, const piece *before) {
  static const uint32_t LAST[] = {0x7f, 0x7ff, 0xffff};
  for (int i = 0; i < 3; i++) {
    if (from <= LAST[i] && to > LAST[i]) {
      piece low = codes(r, from, LAST[i], before);
      return codes(r, LAST[i] + 1, to, &low);
    }
  }
  for (int bits = 6; bits < 24 && to >= 0x80; bits += 6) {
    uint32_t tail = (1u << bits) - 1;
    if ((from & ~tail) == (to & ~tail)) break;
    uint32_t split = from & tail ? from | tail : (to & tail) != tail ? (to & ~tail) - 1 : to;
    if (split < to) {
      piece low = codes(r, from, split, before);
      return codes(r, split + 1, to, &low);
    }
  }
  uint8_t first[4], last[4];
  unsigned size = encode(from, first);
  encode(to, last);
  piece whole = empty(r);
  for (unsigned i = 0; i < size; i++) {
    uint8_t set[32] = {0};
    add_range(set, first[i], last[i]);
    whole = then(r, whole, bytes(r, set));
  }
  return before ? either(r, *before, whole) : whole;
}

static uint32_t hex(reader *r, int digits) {
  uint32_t value = 0;
  for (; digits > 0; digits--, r->at++) {
    char c = r->at < r->size ? r->text[r->at] : 0;
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) {
      refuse(&r->n->why, "a hex digit is missing at %d", (int)r->at);
      return 0;
    }
    value = value << 4 | (uint32_t)digit;
  }
  return value;
}

/* What stands at r->at: a character (its code), or a class of bytes, put into `set` (-1). */
static int32_t character(reader *r, uint8_t *set) {
  uint8_t c = (uint8_t)r->text[r->at++];
  if (c >= 0xc0) {
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    int32_t code = c & (0x3f >> more);
    for (; more > 0 && r->at < r->size; more--) code = code << 6 | (r->text[r->at++] & 63);
    return code;
  }
  if (c != '\\') return c;
  if (r->at >= r->size) {
    refuse(&r->n->why, "the pattern ends with a backslash");
    return 0;
  }
  c = (uint8_t)r->text[r->at++];
  switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case '0': return 0;
    case 'x': return (int32_t)hex(r, 2);
    case 'u': {
      if (r->at >= r->size || r->text[r->at] != '{') return (int32_t)hex(r, 4);
      const char *close = memchr(r->text + r->at, '}', r->size - r->at);
      int digits = close ? (int)(close - r->text - r->at) - 1 : 0;
      r->at++;
      uint32_t code = digits >= 1 && digits <= 6 ? hex(r, digits) : MOST_CODE + 1;
      if (code > MOST_CODE) refuse(&r->n->why, "no character has the code at %d", (int)r->at);
      r->at++;
      return (int32_t)(code > MOST_CODE ? 0 : code);
    }
    case 'd': case 'D': add_range(set, '0', '9'); break;
    case 'w': case 'W': add_range(set, '0', '9'), add_range(set, 'a', 'z'), add_range(set, 'A', 'Z'), add(set, '_'); break;
    case 's': case 'S': add_range(set, '\t', '\r'), add(set, ' '); break;
    default:
      if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        refuse(&r->n->why, "\\%c cannot be had: the pattern is matched byte by byte, without memory", c);
      }
      return c;
  }
  if (c < 'a') for (int i = 0; i < 32; i++) set[i] = (uint8_t)~set[i];
  return -1;
}

static piece class_of(reader *r) {
  uint8_t set[32] = {0};
  piece wide = {0, 0};
  bool any_wide = false, negated = r->at < r->size && r->text[r->at] == '^';
  r->at += negated;
  for (;;) {
    if (r->at >= r->size) {
      refuse(&r->n->why, "a [ is never closed");
      return empty(r);
    }
    if (r->text[r->at] == ']') break;
    uint8_t some[32] = {0};
    int32_t from = character(r, some);
    for (int i = 0; i < 32; i++) set[i] |= some[i];
    if (from < 0) continue;
    int32_t to = from;
    if (r->at + 1 < r->size && r->text[r->at] == '-' && r->text[r->at + 1] != ']') {
      uint8_t none[32] = {0};
      r->at++;
      to = character(r, none);
      if (to < from) refuse(&r->n->why, "a range ends before it begins at %d", (int)r->at);
    }
    if (from < 0x80) add_range(set, (unsigned)from, (unsigned)(to < 0x80 ? to : 0x7f));
    if (to >= 0x80) {
      if (negated) refuse(&r->n->why, "[^...] takes single bytes only: no character above ASCII, at %d", (int)r->at);
      wide = codes(r, (uint32_t)(from < 0x80 ? 0x80 : from), (uint32_t)to, any_wide ? &wide : NULL);
      any_wide = true;
    }
    if (r->n->why.reason[0]) return empty(r);
  }
  r->at++;
  if (negated) {
    if (r->any_case) both_cases(set);
    for (int i = 0; i < 32; i++) set[i] = (uint8_t)~set[i];
    uint32_t end = nfa_node(r->n, NODE_EMPTY, 0, 0);
    return (piece){nfa_node(r->n, NODE_BYTES, end, nfa_set(r->n, set)), end};
  }
  piece narrow = bytes(r, set);
  return any_wide ? either(r, narrow, wide) : narrow;
}

static piece group(reader *r) {
  if (r->at + 1 < r->size && r->text[r->at] == '?') {
    const char *name = r->text + r->at;
    const char *close = memchr(name, '>', r->size - r->at);
    if (name[1] == ':') r->at += 2;
    else if (name[1] == '<' && name[2] != '=' && name[2] != '!' && close) r->at += (size_t)(close - name) + 1;
    else refuse(&r->n->why, "looking around cannot be had: (?%c at %d", name[1], (int)r->at);
  }
  if (++r->depth > MOST_GROUPS) refuse(&r->n->why, "groups are nested more than %d deep", MOST_GROUPS);
  if (r->n->why.reason[0]) return empty(r);
  piece inside = alternatives(r);
  r->depth--;
  if (r->at >= r->size) refuse(&r->n->why, "a ( is never closed");
  r->at++;
  return inside;
}

static piece atom(reader *r) {
  char c = r->text[r->at];
  uint8_t set[32] = {0};
  if (c == '(') return r->at++, group(r);
  if (c == '[') return r->at++, class_of(r);
  if (c == '*' || c == '+' || c == '?') refuse(&r->n->why, "there is nothing to repeat at %d", (int)r->at);
  if (c == '^' || c == '$') refuse(&r->n->why, "%c stands inside the pattern at %d", c, (int)r->at);
  if (r->n->why.reason[0]) return empty(r);
  if (c == '.') {
    r->at++;
    memset(set, 0xff, sizeof set);
    if (!r->dot_all) set['\n' >> 3] &= (uint8_t)~(1u << ('\n' & 7));
    return bytes(r, set);
  }
  int32_t code = character(r, set);
  if (code >= 0x80) return codes(r, (uint32_t)code, (uint32_t)code, NULL);
  if (code >= 0) add(set, (unsigned)code);
  return bytes(r, set);
}

/* Reads {n}, {n,} or {n,m} at r->at; false when it is none, and stands for itself. */
static bool counts(reader *r, int *least, int *most) {
  size_t at = r->at + 1;
  int number[2] = {-1, -1}, which = 0;
  for (; at < r->size && r->text[at] != '}'; at++) {
    char c = r->text[at];
    if (c == ',' && which == 0) which = 1;
    else if (c >= '0' && c <= '9' && number[which] < 100000) number[which] = (number[which] < 0 ? 0 : number[which] * 10) + c - '0';
    else return false;
  }
  if (at >= r->size || number[0] < 0) return false;
  *least = number[0];
  *most = which ? number[1] : number[0];
  if (*least > MOST_REPEATS || *most > MOST_REPEATS) refuse(&r->n->why, "more than %d repeats at %d", MOST_REPEATS, (int)r->at);
  if (*most >= 0 && *most < *least) refuse(&r->n->why, "the most repeats are fewer than the least at %d", (int)r->at);
  r->at = at + 1;
  return true;
}

static piece repeated(reader *r) {
  size_t from = r->at;
  piece one = atom(r);
  while (r->at < r->size && !r->n->why.reason[0]) {
    int least = 1, most = 1;
    char c = r->text[r->at];
    if (c == '*' || c == '+' || c == '?') least = c == '+', most = c == '?' ? 1 : -1, r->at++;
    else if (c != '{' || !counts(r, &least, &most)) break;
    size_t after = r->at;
    piece all = empty(r);
    for (int i = 0; i < least || i < most || (most < 0 && i == least); i++) {
      r->at = from; /* each copy is read again */
      piece copy = atom(r);
      if (r->n->why.reason[0]) return one;
      all = then(r, all, i < least ? copy : maybe(r, copy, most < 0));
    }
    one = all;
    r->at = after;
    if (r->at < r->size && r->text[r->at] == '?') r->at++; /* lazy: the same texts match */
    if (r->at < r->size && r->text[r->at] && strchr("*+?{", r->text[r->at])) {
      refuse(&r->n->why, "a repeat is repeated at %d: put it into (?:...)", (int)r->at);
    }
  }
  return one;
}

static piece alternatives(reader *r) {
  piece all = {0, 0}, one = empty(r);
  bool several = false;
  if (!r->depth && r->at < r->size && r->text[r->at] == '^') r->at++;
  for (;; ) {
    bool end = r->at >= r->size || r->n->why.reason[0] || (r->text[r->at] == ')' && r->depth);
    if (!end && r->text[r->at] == ')') refuse(&r->n->why, "a ) closes nothing at %d", (int)r->at);
    if (!end && r->text[r->at] == '$' && !r->depth && (r->at + 1 == r->size || r->text[r->at + 1] == '|')) {
      r->at++;
      continue;
    }
    if (end || r->text[r->at] == '|') {
      all = several ? either(r, all, one) : one;
      several = true;
      if (end) return all;
      r->at++;
      if (!r->depth && r->at < r->size && r->text[r->at] == '^') r->at++;
      one = empty(r);
      continue;
    }
    one = then(r, one, repeated(r));
  }
}

uint32_t nfa_regex(nfa *n, const char *pattern, size_t size, const char *flags, uint32_t label) {
  reader r = {n, pattern, size, 0, 0, strchr(flags, 'i') != NULL, strchr(flags, 's') != NULL};
  piece whole = alternatives(&r);
  uint32_t accept = nfa_node(n, NODE_ACCEPT, 0, label);
  if (!n->why.reason[0]) n->nodes[whole.end].to = accept;
  return whole.start;
}

uint32_t nfa_literal(nfa *n, const char *text, size_t size, uint32_t label) {
  uint32_t next = nfa_node(n, NODE_ACCEPT, 0, label);
  while (size-- > 0) {
    uint8_t set[32] = {0};
    add(set, (uint8_t)text[size]);
    next = nfa_node(n, NODE_BYTES, next, nfa_set(n, set));
  }
  return next;
}

machine *regex_machine(const char *pattern, size_t size, const char *flags, refusal *why) {
  nfa n = {0};
  uint32_t start = nfa_regex(&n, pattern, size, flags, 0);
  machine *m = dfa_new(&n, why);
  if (m) dfa_state(m, &start, 1);
  return m;
}

static bool in_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '\'' || (c & 0x80);
}

machine *substring_machine(const char *text, size_t size, const char *end, size_t end_size, refusal *why) {
  nfa n = {0};
  uint32_t closing = nfa_literal(&n, end, end_size, 0), next = closing, count = 0;
  uint32_t *starts = calloc(size + 1, sizeof *starts);
  if (!starts || !size) {
    refuse(why, size ? "no memory for the text" : "the text is empty");
    free(starts);
    nfa_free(&n);
    return NULL;
  }
  for (size_t i = size; i-- > 0 && !n.why.reason[0];) {
    uint8_t set[32] = {0};
    add(set, (uint8_t)text[i]);
    if (next != closing && !(in_word(text[i]) && in_word(text[i + 1]))) next = nfa_node(&n, NODE_FORK, closing, next);
    next = nfa_node(&n, NODE_BYTES, next, nfa_set(&n, set));
    if (i == 0 || !(in_word(text[i - 1]) && in_word(text[i]))) starts[count++] = next;
  }
  machine *m = dfa_new(&n, why);
  if (m) dfa_state(m, starts, count);
  free(starts);
  return m;
}
