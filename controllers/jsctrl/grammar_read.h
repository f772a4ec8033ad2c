/* A grammar as it is read, and the tables made of it. */
#ifndef GRAMMAR_READ_H
#define GRAMMAR_READ_H

#include "automaton.h"

enum { MOST_SYMBOLS = 2000, MOST_RULES = 4000, MOST_ITEMS = 20000, MOST_STATES = 4000, END = 0, NONE = 0xffff };

typedef struct { const char *text; uint32_t size; bool pattern, terminal, defined; } symbol;
typedef struct { uint16_t left, size, at; } rule; /* at: where its right side begins in `right` */

/* Symbol END is the end of the text; rule 0 is: the whole is the start symbol. */
typedef struct {
  symbol *symbols;
  rule *rules;
  uint16_t *right;
  uint32_t symbol_count, rule_count, right_size;
  uint16_t start;
  symbol *skips; /* patterns that may stand between words */
  uint32_t skip_count;
  uint8_t *nullable, *first, *follow; /* first and follow: symbol_count squared */
  uint16_t *go;                       /* state * symbol_count: the state after it, or NONE */
  uint16_t **done;                    /* of each state: the rules that are complete there; ends with NONE */
  uint32_t state_count;
} grammar;

/* Reads `source`, which stays the caller's and must live as long; what is wrong stands in `why`. */
void grammar_read(grammar *g, const char *source, size_t size, refusal *why);
/* Makes first, follow and the automaton of items. */
void grammar_tables(grammar *g, refusal *why);
void grammar_free(grammar *g);

#endif
