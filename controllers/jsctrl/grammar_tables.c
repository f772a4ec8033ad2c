/* Which word may follow what, and the automaton of half-read rules (LR(0)). */
#include "grammar_read.h"

#include <stdlib.h>
#include <string.h>

static bool join(uint8_t *to, const uint8_t *from, uint32_t count) {
  bool changed = false;
  for (uint32_t i = 0; i < count; i++) {
    if (from[i] && !to[i]) to[i] = 1, changed = true;
  }
  return changed;
}

static void first_and_follow(grammar *g) {
  uint32_t n = g->symbol_count;
  for (uint32_t i = 0; i < n; i++) g->first[i * n + i] = g->symbols[i].terminal;
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = 1; i < g->rule_count; i++) {
      const rule *r = &g->rules[i];
      uint32_t k = 0;
      for (; k < r->size; k++) {
        uint16_t part = g->right[r->at + k];
        changed |= join(g->first + r->left * n, g->first + part * n, n);
        if (!g->nullable[part]) break;
      }
      if (k == r->size && !g->nullable[r->left]) g->nullable[r->left] = 1, changed = true;
    }
  }
  g->follow[g->start * n + END] = 1;
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = 1; i < g->rule_count; i++) {
      const rule *r = &g->rules[i];
      for (uint32_t k = 0; k < r->size; k++) {
        uint8_t *after = g->follow + g->right[r->at + k] * n;
        uint32_t next = k + 1;
        for (; next < r->size; next++) {
          uint16_t part = g->right[r->at + next];
          changed |= join(after, g->first + part * n, n);
          if (!g->nullable[part]) break;
        }
        if (next == r->size) changed |= join(after, g->follow + r->left * n, n);
      }
    }
  }
}

/* An item is a rule with a dot: rule << 16 | how much of it is read. */
typedef struct { uint32_t *items, count; } kernel;
typedef struct {
  grammar *g;
  kernel *kernels;
  uint32_t *closed, closed_count;
  uint8_t *expanded;
} maker;

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static void close_items(maker *k, const kernel *from) {
  grammar *g = k->g;
  memset(k->expanded, 0, g->symbol_count);
  memcpy(k->closed, from->items, from->count * sizeof *k->closed);
  k->closed_count = from->count;
  for (uint32_t i = 0; i < k->closed_count; i++) {
    const rule *r = &g->rules[k->closed[i] >> 16];
    uint32_t dot = k->closed[i] & 0xffff;
    if (dot == r->size) continue;
    uint16_t next = g->right[r->at + dot];
    if (g->symbols[next].terminal || k->expanded[next]) continue;
    k->expanded[next] = 1;
    for (uint32_t j = 1; j < g->rule_count; j++)
      if (g->rules[j].left == next) k->closed[k->closed_count++] = j << 16;
  }
}

static uint16_t state_of(maker *k, const uint32_t *items, uint32_t count, refusal *why) {
  grammar *g = k->g;
  for (uint32_t i = 0; i < g->state_count; i++)
    if (k->kernels[i].count == count && !memcmp(k->kernels[i].items, items, count * sizeof *items)) return (uint16_t)i;
  uint32_t *own = malloc(count * sizeof *own);
  if (g->state_count == MOST_STATES || !own) {
    refuse(why, "yacc: the grammar needs more than %d states", MOST_STATES);
    free(own);
    return 0;
  }
  memcpy(own, items, count * sizeof *own);
  k->kernels[g->state_count] = (kernel){own, count};
  return (uint16_t)g->state_count++;
}

static void make_state(maker *k, uint32_t state, uint32_t *moved, refusal *why) {
  grammar *g = k->g;
  close_items(k, &k->kernels[state]);
  uint32_t complete = 0;
  for (uint32_t i = 0; i < k->closed_count; i++) complete += (k->closed[i] & 0xffff) == g->rules[k->closed[i] >> 16].size;
  uint16_t *row = realloc(g->go, (size_t)(state + 1) * g->symbol_count * sizeof *row);
  uint16_t *done = malloc((complete + 1) * sizeof *done);
  if (!row || !done) abort();
  g->go = row;
  row += (size_t)state * g->symbol_count;
  g->done[state] = done;
  memset(row, 0xff, g->symbol_count * sizeof *row);
  for (uint32_t i = 0; i < k->closed_count; i++) {
    const rule *r = &g->rules[k->closed[i] >> 16];
    uint32_t dot = k->closed[i] & 0xffff, count = 0;
    if (dot == r->size) {
      *done++ = (uint16_t)(k->closed[i] >> 16);
      continue;
    }
    uint16_t by = g->right[r->at + dot];
    if (row[by] != NONE) continue;
    for (uint32_t j = i; j < k->closed_count; j++) {
      const rule *other = &g->rules[k->closed[j] >> 16];
      uint32_t at = k->closed[j] & 0xffff;
      if (at < other->size && g->right[other->at + at] == by) moved[count++] = k->closed[j] + 1;
    }
    qsort(moved, count, sizeof *moved, by_value);
    row[by] = state_of(k, moved, count, why);
    if (why->reason[0]) break;
  }
  *done = NONE;
}

void grammar_tables(grammar *g, refusal *why) {
  uint32_t n = g->symbol_count, items = g->right_size + g->rule_count + MOST_RULES;
  g->nullable = calloc(n, 1);
  g->first = calloc((size_t)n * n, 1);
  g->follow = calloc((size_t)n * n, 1);
  g->done = calloc(MOST_STATES, sizeof *g->done);
  maker k = {g, calloc(MOST_STATES, sizeof(kernel)), calloc(items, sizeof(uint32_t)), 0, calloc(n, 1)};
  uint32_t *moved = calloc(items, sizeof *moved), first = 0;
  if (!g->nullable || !g->first || !g->follow || !g->done || !k.kernels || !k.closed || !k.expanded || !moved) abort();
  first_and_follow(g);
  state_of(&k, &first, 1, why);
  for (uint32_t state = 0; state < g->state_count && !why->reason[0]; state++) make_state(&k, state, moved, why);
  for (uint32_t i = 0; i < g->state_count; i++) free(k.kernels[i].items);
  free(k.kernels), free(k.closed), free(k.expanded), free(moved);
}
