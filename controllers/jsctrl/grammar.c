/* What a grammar allows next, byte by byte: a lexer that knows which words the parser could take, over every stack the parser may have.
 *
 * The stacks are those of an LR(0) automaton with one word of lookahead (SLR); where a grammar needs more to decide, both ways are
 * followed and the wrong one dies. Stacks and sets of stacks are kept once each, so that what was asked before costs a look-up. */
#include "grammar_read.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_STACKS = 1 << 18, MOST_SETS = 1 << 16, MOST_WORK = 4096 };
enum { LABELS = (1 << 16) - 1, PATTERN_LABEL = 1 << 16, SKIP_LABEL = 1 << 17 };

typedef struct { uint32_t state, under; } stack;
/* Stacks, by their tops. lexer: its state where a word begins; after: the set after each word; ends: -1 while nobody asked. */
typedef struct { uint32_t *tops, count, lexer; int32_t ends; uint32_t *after; } set;

typedef struct {
  machine base;
  grammar g;
  char *source;
  machine *lexer;
  uint32_t *begins; /* the lexer's node of each symbol, then of each skip */
  stack *stacks;
  uint32_t stack_count, stack_room, *stack_at, stack_buckets;
  set *sets;
  uint32_t set_count, set_room;
  struct { uint32_t set, lexer; } *places; /* of each state of the machine */
  uint32_t place_room, *place_at, place_buckets;
  uint32_t work[MOST_WORK], work_count;
} parser;

static uint32_t mix(uint32_t a, uint32_t b) {
  uint32_t hash = (a * 2654435761u) ^ (b + 0x9e3779b9u) * 2246822519u;
  return hash ^ hash >> 15;
}

static uint32_t fail(parser *p) {
  refuse(&p->base.why, "yacc: too many ways to read the text");
  return 0;
}

static uint32_t stack_of(parser *p, uint32_t state, uint32_t under) {
  if (p->stack_count * 2 >= p->stack_buckets) {
    free(p->stack_at);
    p->stack_buckets = p->stack_buckets ? p->stack_buckets * 2 : 1024;
    p->stack_at = calloc(p->stack_buckets, sizeof *p->stack_at);
    if (!p->stack_at || p->stack_count > MOST_STACKS) return fail(p);
    for (uint32_t i = 1; i < p->stack_count; i++) {
      uint32_t at = mix(p->stacks[i].state, p->stacks[i].under);
      while (p->stack_at[at & (p->stack_buckets - 1)]) at++;
      p->stack_at[at & (p->stack_buckets - 1)] = i;
    }
  }
  for (uint32_t at = mix(state, under);; at++) {
    uint32_t *bucket = &p->stack_at[at & (p->stack_buckets - 1)];
    if (*bucket && (p->stacks[*bucket].state != state || p->stacks[*bucket].under != under)) continue;
    if (*bucket) return *bucket;
    if (!make_room((void **)&p->stacks, &p->stack_room, p->stack_count + 1, sizeof *p->stacks)) return fail(p);
    p->stacks[p->stack_count] = (stack){state, under};
    return *bucket = p->stack_count++;
  }
}

static void push_work(parser *p, uint32_t top) {
  for (uint32_t i = 0; i < p->work_count; i++)
    if (p->work[i] == top) return;
  if (p->work_count == MOST_WORK) fail(p);
  else p->work[p->work_count++] = top;
}

/* Completes rules on the stacks of a set, as far as `word` may follow: what is left in p->work has every stack that then stands. */
static void reduce(parser *p, uint32_t from, uint32_t word) {
  p->work_count = 0;
  for (uint32_t i = 0; i < p->sets[from].count; i++) push_work(p, p->sets[from].tops[i]);
  for (uint32_t i = 0; i < p->work_count && !p->base.why.reason[0]; i++) {
    uint32_t state = p->stacks[p->work[i]].state;
    for (const uint16_t *done = p->g.done[state]; *done != NONE; done++) {
      const rule *r = &p->g.rules[*done];
      if (!*done || !p->g.follow[r->left * p->g.symbol_count + word]) continue;
      uint32_t under = p->work[i];
      for (uint32_t k = 0; k < r->size; k++) under = p->stacks[under].under;
      uint16_t next = p->g.go[p->stacks[under].state * p->g.symbol_count + r->left];
      if (next != NONE) push_work(p, stack_of(p, next, under));
    }
  }
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static uint32_t set_of(parser *p, uint32_t *tops, uint32_t count) {
  qsort(tops, count, sizeof *tops, by_number);
  for (uint32_t i = p->set_count; i-- > 1;)
    if (p->sets[i].count == count && !memcmp(p->sets[i].tops, tops, count * sizeof *tops)) return i;
  uint32_t *own = malloc(count * sizeof *own), *after = malloc(p->g.symbol_count * sizeof *after);
  if (!own || !after || p->set_count == MOST_SETS || !make_room((void **)&p->sets, &p->set_room, p->set_count + 1, sizeof *p->sets)) {
    free(own), free(after);
    return fail(p);
  }
  memcpy(own, tops, count * sizeof *own);
  memset(after, 0xff, p->g.symbol_count * sizeof *after);
  p->sets[p->set_count] = (set){own, count, UNKNOWN, -1, after};
  return p->set_count++;
}

/* The set after `word`; 0 when it cannot come. */
static uint32_t shift(parser *p, uint32_t from, uint32_t word) {
  uint32_t known = p->sets[from].after[word], count = 0, tops[MOST_WORK];
  if (known != UNKNOWN) return known;
  reduce(p, from, word);
  for (uint32_t i = 0; i < p->work_count; i++) {
    uint16_t next = p->g.go[p->stacks[p->work[i]].state * p->g.symbol_count + word];
    if (next != NONE) tops[count++] = stack_of(p, next, p->work[i]);
  }
  uint32_t to = count && !p->base.why.reason[0] ? set_of(p, tops, count) : 0;
  return p->sets[from].after[word] = to;
}

static bool may_end(parser *p, uint32_t at) {
  if (p->sets[at].ends < 0) {
    reduce(p, at, END);
    bool ends = false;
    uint16_t whole = p->g.go[p->g.start];
    for (uint32_t i = 0; i < p->work_count; i++) ends |= p->stacks[p->work[i]].state == whole;
    p->sets[at].ends = ends;
  }
  return p->sets[at].ends;
}

/* The lexer where a word begins: it knows the words that the parser could take, and what is skipped. */
static uint32_t lexer_at(parser *p, uint32_t at) {
  if (p->sets[at].lexer != UNKNOWN) return p->sets[at].lexer;
  uint32_t starts[MOST_SYMBOLS * 2], count = 0;
  for (uint32_t i = 1; i < p->g.symbol_count; i++)
    if (p->g.symbols[i].terminal && shift(p, at, i)) starts[count++] = p->begins[i];
  for (uint32_t i = 0; i < p->g.skip_count; i++) starts[count++] = p->begins[p->g.symbol_count + i];
  uint32_t state = dfa_state(p->lexer, starts, count);
  return p->sets[at].lexer = state;
}

static uint32_t place_of(parser *p, uint32_t at, uint32_t lexer) {
  if (!lexer) return 0;
  if (p->base.states * 2 >= p->place_buckets) {
    free(p->place_at);
    p->place_buckets = p->place_buckets ? p->place_buckets * 2 : 1024;
    p->place_at = calloc(p->place_buckets, sizeof *p->place_at);
    if (!p->place_at) return fail(p);
    for (uint32_t i = 1; i < p->base.states; i++) {
      uint32_t to = mix(p->places[i].set, p->places[i].lexer);
      while (p->place_at[to & (p->place_buckets - 1)]) to++;
      p->place_at[to & (p->place_buckets - 1)] = i;
    }
  }
  for (uint32_t to = mix(at, lexer);; to++) {
    uint32_t *bucket = &p->place_at[to & (p->place_buckets - 1)];
    if (*bucket && (p->places[*bucket].set != at || p->places[*bucket].lexer != lexer)) continue;
    if (*bucket) return *bucket;
    uint32_t state = machine_row(&p->base);
    if (!state || !make_room((void **)&p->places, &p->place_room, state + 1, sizeof *p->places)) return 0;
    p->places[state].set = at;
    p->places[state].lexer = lexer;
    return *bucket = state;
  }
}

/* The set after the word that the lexer has just read; 0 when it has read none. */
static uint32_t after_word(parser *p, uint32_t at, uint32_t lexer) {
  int32_t label = p->lexer->accepts(p->lexer, lexer);
  if (label < 0) return 0;
  return label >= SKIP_LABEL ? at : shift(p, at, (uint32_t)label & LABELS);
}

static uint32_t grammar_make(machine *m, uint32_t state, uint8_t byte) {
  parser *p = (parser *)m;
  if (m->why.reason[0]) return 0;
  uint32_t at = p->places[state].set, lexer = p->places[state].lexer, longer = machine_next(p->lexer, lexer, byte);
  if (longer) return place_of(p, at, longer); /* the longest word counts */
  uint32_t next = after_word(p, at, lexer);
  if (!next) return 0;
  uint32_t begun = lexer_at(p, next);
  return begun ? place_of(p, next, machine_next(p->lexer, begun, byte)) : 0;
}

static int32_t grammar_accepts(machine *m, uint32_t state) {
  parser *p = (parser *)m;
  if (!state) return -1;
  uint32_t at = state == 1 ? p->places[1].set : after_word(p, p->places[state].set, p->places[state].lexer);
  return at && may_end(p, at) ? 0 : -1;
}

static void grammar_destroy(machine *m) {
  parser *p = (parser *)m;
  for (uint32_t i = 1; i < p->set_count; i++) free(p->sets[i].tops), free(p->sets[i].after);
  grammar_free(&p->g);
  if (p->lexer) p->lexer->destroy(p->lexer);
  free(p->source), free(p->begins), free(p->stacks), free(p->stack_at), free(p->sets), free(p->places), free(p->place_at);
  free(m->table);
  free(m);
}

static void make_lexer(parser *p, refusal *why) {
  nfa n = {0};
  uint32_t symbols = p->g.symbol_count;
  p->begins = calloc(symbols + p->g.skip_count, sizeof *p->begins);
  if (!p->begins) abort();
  for (uint32_t i = 1; i < symbols + p->g.skip_count; i++) {
    const symbol *s = i < symbols ? &p->g.symbols[i] : &p->g.skips[i - symbols];
    uint32_t label = i < symbols ? i | (s->pattern ? PATTERN_LABEL : 0) : SKIP_LABEL; /* the lowest counts: words before patterns */
    if (!s->terminal) continue;
    p->begins[i] = s->pattern ? nfa_regex(&n, s->text, s->size, "", label) : nfa_literal(&n, s->text, s->size, label);
    if (n.why.reason[0]) {
      refuse(why, "yacc: /%.*s/: %s", (int)s->size, s->text, n.why.reason);
      return nfa_free(&n);
    }
  }
  p->lexer = dfa_new(&n, why);
}

machine *grammar_machine(const char *source, size_t size, refusal *why) {
  parser *p = calloc(1, sizeof *p);
  if (!p) abort();
  p->base.make = grammar_make;
  p->base.accepts = grammar_accepts;
  p->base.destroy = grammar_destroy;
  p->source = malloc(size + 1);
  p->stack_count = p->set_count = 1;
  if (!p->source || !make_room((void **)&p->stacks, &p->stack_room, 1, sizeof *p->stacks)) abort();
  memcpy(p->source, source, size);
  p->source[size] = 0;
  grammar_read(&p->g, p->source, size, why);
  if (!why->reason[0]) grammar_tables(&p->g, why);
  if (!why->reason[0]) make_lexer(p, why);
  if (!why->reason[0]) {
    machine *m = &p->base;
    machine_start(m);
    m->classes = p->lexer->classes;
    memcpy(m->class_of, p->lexer->class_of, sizeof m->class_of);
    memcpy(m->sample, p->lexer->sample, sizeof m->sample);
    machine_row(m);
    uint32_t bottom = stack_of(p, 0, 0), begun = lexer_at(p, set_of(p, &bottom, 1));
    if (p->lexer->accepts(p->lexer, begun) >= 0) refuse(why, "yacc: a pattern matches nothing at all");
    if (!place_of(p, 1, begun)) refuse(why, "yacc: no text has this form");
  }
  if (!why->reason[0]) return &p->base;
  grammar_destroy(&p->base);
  return NULL;
}
