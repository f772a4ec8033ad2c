/* Reads a grammar: %start NAME, %%, then NAME: "word" | "/pattern/" NAME ... ; with comments as in C. SKIP's patterns are skipped. */
#include "grammar_read.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  grammar *g;
  const char *text;
  size_t size, at;
  refusal *why;
} source;

typedef struct { const char *text; uint32_t size; char kind; } word; /* kind: 'n'ame, 's'tring, a sign itself, or 0 at the end */

static int line_of(const source *s) {
  int line = 1;
  for (size_t i = 0; i < s->at && i < s->size; i++) line += s->text[i] == '\n';
  return line;
}

static bool name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

static void skip_blanks(source *s) {
  while (s->at < s->size) {
    const char *at = s->text + s->at;
    size_t left = s->size - s->at;
    if (*at == ' ' || (*at >= '\t' && *at <= '\r')) s->at++;
    else if (left > 1 && at[0] == '/' && at[1] == '/') {
      const char *end = memchr(at, '\n', left);
      s->at = end ? (size_t)(end - s->text) : s->size;
    } else if (left > 1 && at[0] == '/' && at[1] == '*') {
      for (s->at += 2; s->at + 1 < s->size && !(s->text[s->at] == '*' && s->text[s->at + 1] == '/');) s->at++;
      s->at += 2;
    } else break;
  }
}

static word next_word(source *s) {
  skip_blanks(s);
  if (s->at >= s->size) return (word){NULL, 0, 0};
  const char *from = s->text + s->at;
  if (*from == '"' || *from == '\'') {
    size_t end = s->at + 1;
    while (end < s->size && s->text[end] != *from) end += s->text[end] == '\\' ? 2 : 1;
    if (end >= s->size) refuse(s->why, "yacc: line %d: a string is never closed", line_of(s));
    s->at = end + 1;
    return (word){from + 1, (uint32_t)(end < s->size ? s->text + end - from - 1 : 0), 's'};
  }
  if (name_char(*from)) {
    while (s->at < s->size && name_char(s->text[s->at])) s->at++;
    return (word){from, (uint32_t)(s->text + s->at - from), 'n'};
  }
  s->at++;
  if (*from == '%' && s->at < s->size && s->text[s->at] == '%') return s->at++, (word){from, 2, 'e'};
  return (word){from, 1, *from};
}

static bool is(word w, const char *text) { return w.size == strlen(text) && !memcmp(w.text, text, w.size); }

static bool is_pattern(word w) { return w.kind == 's' && w.size > 2 && w.text[0] == '/' && w.text[w.size - 1] == '/'; }

static uint16_t symbol_of(source *s, word w) {
  grammar *g = s->g;
  bool pattern = is_pattern(w), terminal = w.kind == 's';
  if (pattern) w.text++, w.size -= 2;
  for (uint32_t i = 1; i < g->symbol_count; i++) {
    const symbol *old = &g->symbols[i];
    if (old->terminal != terminal || old->pattern != pattern || old->size != w.size) continue;
    if (!memcmp(old->text, w.text, w.size)) return (uint16_t)i;
  }
  if (g->symbol_count == MOST_SYMBOLS) refuse(s->why, "yacc: more than %d words and names", MOST_SYMBOLS);
  if (terminal && !w.size) refuse(s->why, "yacc: line %d: a word is empty", line_of(s));
  if (s->why->reason[0]) return 0;
  g->symbols[g->symbol_count] = (symbol){w.text, w.size, pattern, terminal, false};
  return (uint16_t)g->symbol_count++;
}

static void add_rule(source *s, uint16_t left, uint32_t from) {
  grammar *g = s->g;
  if (g->rule_count == MOST_RULES) refuse(s->why, "yacc: more than %d rules", MOST_RULES);
  else g->rules[g->rule_count++] = (rule){left, (uint16_t)(g->right_size - from), (uint16_t)from};
}

/* Reads the alternatives after NAME and its colon, up to the semicolon. */
static void read_rules(source *s, word name) {
  grammar *g = s->g;
  bool skip = is(name, "SKIP");
  uint16_t left = skip ? 0 : symbol_of(s, name);
  if (!skip) g->symbols[left].defined = true;
  uint32_t from = g->right_size;
  while (!s->why->reason[0]) {
    word w = next_word(s);
    if (w.kind == '|' || w.kind == ';') {
      if (!skip) add_rule(s, left, from);
      from = g->right_size;
      if (w.kind == ';') return;
    } else if (skip && is_pattern(w)) {
      if (g->skip_count == MOST_SYMBOLS) refuse(s->why, "yacc: more than %d patterns to skip", MOST_SYMBOLS);
      else g->skips[g->skip_count++] = (symbol){w.text + 1, w.size - 2, true, true, true};
    } else if ((w.kind == 's' || w.kind == 'n') && !skip) {
      if (g->right_size == MOST_ITEMS) refuse(s->why, "yacc: rules are longer than %d words together", MOST_ITEMS);
      else g->right[g->right_size++] = symbol_of(s, w);
    } else if (w.kind) {
      refuse(s->why, "yacc: line %d: %.*s cannot stand in a rule%s", line_of(s), (int)w.size, w.text, skip ? " of SKIP" : "");
    } else {
      refuse(s->why, "yacc: the last rule has no semicolon");
    }
  }
}

void grammar_read(grammar *g, const char *text, size_t size, refusal *why) {
  source s = {g, text, size, 0, why};
  g->symbols = calloc(MOST_SYMBOLS, sizeof *g->symbols);
  g->skips = calloc(MOST_SYMBOLS, sizeof *g->skips);
  g->rules = calloc(MOST_RULES, sizeof *g->rules);
  g->right = calloc(MOST_ITEMS, sizeof *g->right);
  if (!g->symbols || !g->skips || !g->rules || !g->right) return refuse(why, "no memory for the grammar");
  g->symbols[END] = (symbol){"", 0, false, true, true};
  g->symbol_count = g->right_size = g->rule_count = 1; /* room for rule 0 */
  word start = {0};
  for (word w = next_word(&s); w.kind != 'e' && !why->reason[0]; w = next_word(&s)) {
    if (w.kind == 'n' && is(w, "start")) start = next_word(&s);
    else if (w.kind != '%') refuse(why, "yacc: line %d: %%start NAME and %%%% come before the rules", line_of(&s));
  }
  for (word w = next_word(&s); w.kind && w.kind != 'e' && !why->reason[0]; w = next_word(&s)) {
    word colon = next_word(&s);
    if (w.kind != 'n' || colon.kind != ':') return refuse(why, "yacc: line %d: a rule begins with NAME and a colon", line_of(&s));
    if (!start.kind && !is(w, "SKIP")) start = w;
    read_rules(&s, w);
  }
  if (start.kind != 'n') refuse(why, "yacc: there is no rule to start with");
  if (why->reason[0]) return;
  g->start = symbol_of(&s, start);
  g->right[0] = g->start;
  g->rules[0] = (rule){(uint16_t)END, 1, 0};
  for (uint32_t i = 1; i < g->symbol_count; i++)
    if (!g->symbols[i].terminal && !g->symbols[i].defined)
      refuse(why, "yacc: %.*s has no rule", (int)g->symbols[i].size, g->symbols[i].text);
}

void grammar_free(grammar *g) {
  for (uint32_t i = 0; g->done && i < g->state_count; i++) free(g->done[i]);
  free(g->done), free(g->go), free(g->nullable), free(g->first), free(g->follow);
  free(g->symbols), free(g->skips), free(g->rules), free(g->right);
}
