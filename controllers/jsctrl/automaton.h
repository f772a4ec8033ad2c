/* Automata over bytes: what gen's constraints are made of. States are numbered from 1; 0 is where nothing can follow. */
#ifndef AUTOMATON_H
#define AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REASON_BYTES = 200, MOST_NODES = 1 << 18, MOST_CELLS = 4 << 20 };

/* A refusal, in words. The first one stays. */
typedef struct { char reason[REASON_BYTES]; } refusal;
void refuse(refusal *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Grows an array so that `count` more elements fit; false when there is no memory. */
bool make_room(void **array, uint32_t *room, uint32_t wanted, size_t each);

/* A deterministic automaton whose states and steps are made when they are asked for. */
typedef struct machine machine;
struct machine {
  uint8_t class_of[256];
  uint8_t sample[256]; /* a byte of each class */
  uint32_t classes, states, rows;
  uint32_t *table;     /* states * classes; UNKNOWN where nobody asked yet */
  uint32_t (*make)(machine *, uint32_t state, uint8_t byte);
  int32_t (*accepts)(machine *, uint32_t state); /* a label, or -1 */
  void (*destroy)(machine *);
  refusal why; /* it grew too large: what is allowed from then on is nothing */
};

enum { UNKNOWN = UINT32_MAX };

static inline uint32_t machine_next(void *self, uint32_t state, uint8_t byte) {
  machine *m = self;
  uint32_t *cell = &m->table[state * m->classes + m->class_of[byte]];
  if (*cell != UNKNOWN) return *cell;
  uint32_t next = m->make(m, state, byte); /* may move the table */
  m->table[state * m->classes + m->class_of[byte]] = next;
  return next;
}

/* Whether no byte can follow. */
bool machine_ends(machine *m, uint32_t state);
/* Gives the next state's number, with a row of its own; 0 when there are too many. */
uint32_t machine_row(machine *m);
/* Starts with state 0, from which nothing follows, and one class for every byte. */
bool machine_start(machine *m);
/* Splits classes so that bytes of one class are all in `set` (32 bytes, a bit each), or all not. */
void machine_split(machine *m, const uint8_t *set);

/* A non-deterministic automaton that patterns are added to; `label` says which one accepted. */
enum node_kind { NODE_EMPTY, NODE_FORK, NODE_BYTES, NODE_ACCEPT };
typedef struct { uint32_t kind, to, other; } node; /* other: FORK's second way, BYTES' set, ACCEPT's label */
typedef struct {
  node *nodes;
  uint32_t count, room;
  uint8_t (*sets)[32];
  uint32_t set_count, set_room;
  refusal why;
} nfa;

uint32_t nfa_node(nfa *n, uint32_t kind, uint32_t to, uint32_t other);
uint32_t nfa_set(nfa *n, const uint8_t *set);
/* Each returns the node where the pattern starts; what is wrong stands in n->why. */
uint32_t nfa_regex(nfa *n, const char *pattern, size_t size, const char *flags, uint32_t label);
uint32_t nfa_literal(nfa *n, const char *text, size_t size, uint32_t label);
void nfa_free(nfa *n);

/* The automaton of sets of an nfa's nodes. Where several labels accept, the lowest counts. Owns the nfa. */
machine *dfa_new(nfa *n, refusal *why);
/* The state of these nodes together. */
uint32_t dfa_state(machine *m, const uint32_t *starts, uint32_t count);

/* Constraints. NULL with a reason in `why`, else a machine whose state 1 is the start; accepting states are where an answer may end. */
machine *regex_machine(const char *pattern, size_t size, const char *flags, refusal *why);
/* Runs of whole words of `text`, followed by `end`. */
machine *substring_machine(const char *text, size_t size, const char *end, size_t end_size, refusal *why);
/* A grammar in yacc's notation with its lexer inside. */
machine *grammar_machine(const char *source, size_t size, refusal *why);

#endif
