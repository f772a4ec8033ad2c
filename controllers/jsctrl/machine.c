/* The table of a deterministic automaton, and the automaton of sets of nodes. */
#include "automaton.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void refuse(refusal *why, const char *format, ...) {
  if (why->reason[0]) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why->reason, sizeof why->reason, format, arguments);
  va_end(arguments);
}

bool make_room(void **array, uint32_t *room, uint32_t wanted, size_t each) {
  if (wanted <= *room) return true;
  uint32_t more = *room ? *room : 16;
  while (more < wanted) more *= 2;
  void *moved = realloc(*array, more * each);
  if (!moved) return false;
  *array = moved;
  *room = more;
  return true;
}

bool machine_start(machine *m) {
  m->classes = 1;
  m->states = m->rows = 0;
  m->sample[0] = 0;
  return true;
}

void machine_split(machine *m, const uint8_t *set) {
  uint8_t renamed[256][2] = {{0}};
  bool named[256][2] = {{false}};
  uint32_t classes = 0;
  for (int byte = 0; byte < 256; byte++) {
    int in = set[byte >> 3] >> (byte & 7) & 1, old = m->class_of[byte];
    if (!named[old][in]) {
      named[old][in] = true;
      m->sample[classes] = (uint8_t)byte;
      renamed[old][in] = (uint8_t)classes++;
    }
    m->class_of[byte] = renamed[old][in];
  }
  m->classes = classes;
}

uint32_t machine_row(machine *m) {
  uint32_t cells = (m->states + 1) * m->classes;
  if (cells > MOST_CELLS) {
    refuse(&m->why, "more than %d states: make it simpler", (int)m->states);
    return 0;
  }
  if (!make_room((void **)&m->table, &m->rows, cells, sizeof *m->table)) {
    refuse(&m->why, "no memory for a state");
    return 0;
  }
  memset(m->table + m->states * m->classes, m->states ? 0xff : 0, m->classes * sizeof *m->table);
  return m->states++;
}

bool machine_ends(machine *m, uint32_t state) {
  for (uint32_t i = 0; i < m->classes; i++)
    if (machine_next(m, state, m->sample[i])) return false;
  return true;
}

/* A state is a sorted list of BYTES and ACCEPT nodes. */
typedef struct {
  machine base;
  nfa n;
  uint32_t *members, member_count, member_room;
  uint32_t *first, first_room; /* of each state, and one more: where its members begin */
  int32_t *labels;
  uint32_t label_room;
  uint32_t *buckets, bucket_count; /* open addressing over states */
  uint32_t *mark, turn, *found, found_count, *stack;
} dfa;

static void reach(dfa *d, uint32_t start) {
  uint32_t depth = 0;
  d->stack[depth++] = start;
  while (depth) {
    uint32_t at = d->stack[--depth];
    if (d->mark[at] == d->turn) continue;
    d->mark[at] = d->turn;
    const node *here = &d->n.nodes[at];
    if (here->kind == NODE_EMPTY || here->kind == NODE_FORK) {
      d->stack[depth++] = here->to;
      if (here->kind == NODE_FORK) d->stack[depth++] = here->other;
    } else {
      d->found[d->found_count++] = at;
    }
  }
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static uint32_t hash_of(const uint32_t *items, uint32_t count) {
  uint32_t hash = 2166136261u;
  for (uint32_t i = 0; i < count; i++) hash = (hash ^ items[i]) * 16777619u;
  return hash ^ hash >> 15;
}

static uint32_t *place(dfa *d, const uint32_t *items, uint32_t count) {
  for (uint32_t at = hash_of(items, count);; at++) {
    uint32_t *bucket = &d->buckets[at & (d->bucket_count - 1)];
    if (!*bucket) return bucket;
    uint32_t from = d->first[*bucket], size = d->first[*bucket + 1] - from;
    if (size == count && !memcmp(d->members + from, items, count * sizeof *items)) return bucket;
  }
}

static bool more_buckets(dfa *d) {
  uint32_t *old = d->buckets, old_count = d->bucket_count;
  d->bucket_count = old_count ? old_count * 2 : 256;
  d->buckets = calloc(d->bucket_count, sizeof *d->buckets);
  if (!d->buckets) return false;
  for (uint32_t i = 0; i < old_count; i++) {
    if (!old[i]) continue;
    uint32_t from = d->first[old[i]];
    *place(d, d->members + from, d->first[old[i] + 1] - from) = old[i];
  }
  free(old);
  return true;
}

static uint32_t state_of_found(dfa *d) {
  uint32_t count = d->found_count;
  if (!count) return 0;
  if (d->base.why.reason[0]) return 0;
  qsort(d->found, count, sizeof *d->found, by_number);
  if (d->base.states * 2 >= d->bucket_count && !more_buckets(d)) return 0;
  uint32_t *bucket = place(d, d->found, count);
  if (*bucket) return *bucket;
  if (!make_room((void **)&d->members, &d->member_room, d->member_count + count, sizeof *d->members) ||
      !make_room((void **)&d->first, &d->first_room, d->base.states + 2, sizeof *d->first) ||
      !make_room((void **)&d->labels, &d->label_room, d->base.states + 1, sizeof *d->labels) ||
      d->member_count + count > MOST_CELLS) {
    refuse(&d->base.why, "no memory for a state");
    return 0;
  }
  uint32_t state = machine_row(&d->base);
  if (!state) return 0;
  d->labels[state] = -1;
  for (uint32_t i = 0; i < count; i++) {
    const node *here = &d->n.nodes[d->found[i]];
    if (here->kind != NODE_ACCEPT) continue;
    if (d->labels[state] < 0 || (int32_t)here->other < d->labels[state]) d->labels[state] = (int32_t)here->other;
  }
  memcpy(d->members + d->member_count, d->found, count * sizeof *d->found);
  d->member_count += count;
  d->first[state + 1] = d->member_count;
  *bucket = state;
  return state;
}

static uint32_t dfa_make(machine *m, uint32_t state, uint8_t byte) {
  dfa *d = (dfa *)m;
  d->turn++;
  d->found_count = 0;
  for (uint32_t i = d->first[state]; i < d->first[state + 1]; i++) {
    const node *here = &d->n.nodes[d->members[i]];
    if (here->kind == NODE_BYTES && d->n.sets[here->other][byte >> 3] >> (byte & 7) & 1) reach(d, here->to);
  }
  return state_of_found(d);
}

static int32_t dfa_accepts(machine *m, uint32_t state) { return state ? ((dfa *)m)->labels[state] : -1; }

static void dfa_destroy(machine *m) {
  dfa *d = (dfa *)m;
  nfa_free(&d->n);
  free(d->members);
  free(d->first);
  free(d->labels);
  free(d->buckets);
  free(d->mark);
  free(d->found);
  free(d->stack);
  free(m->table);
  free(m);
}

machine *dfa_new(nfa *n, refusal *why) {
  if (n->why.reason[0]) {
    *why = n->why;
    nfa_free(n);
    return NULL;
  }
  dfa *d = calloc(1, sizeof *d);
  if (!d) abort();
  d->n = *n;
  d->base.make = dfa_make;
  d->base.accepts = dfa_accepts;
  d->base.destroy = dfa_destroy;
  d->mark = calloc(n->count, sizeof *d->mark);
  d->found = calloc(n->count, sizeof *d->found);
  d->stack = calloc(2 * n->count + 2, sizeof *d->stack);
  d->first = calloc(16, sizeof *d->first);
  d->first_room = 16;
  if (!d->mark || !d->found || !d->stack || !d->first || !more_buckets(d)) abort();
  machine_start(&d->base);
  for (uint32_t i = 0; i < n->set_count; i++) machine_split(&d->base, n->sets[i]);
  machine_row(&d->base);
  return &d->base;
}

uint32_t dfa_state(machine *m, const uint32_t *starts, uint32_t count) {
  dfa *d = (dfa *)m;
  d->turn++;
  d->found_count = 0;
  for (uint32_t i = 0; i < count; i++) reach(d, starts[i]);
  return state_of_found(d);
}
