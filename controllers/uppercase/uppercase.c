/* Makes every fourth byte of the answer an upper-case letter, and stops after 50 tokens. Its argument says nothing.
 *
 * A prompt of at most one token is followed by "Here's a tweet:\n". The end of the answer is never drawn. */
#include "../aici.h"

enum { TOKENS = 50, PERIOD = 4, JSON_BYTES = 1 << 20, NUMBERS = 1 << 16 };

static const char OPENING[] = "Here's a tweet:\n";
static aici_trie trie;
static uint32_t *mask, *numbers, drawn, bytes;
static char *json;

AICI_EXPORT(aici_init) void aici_init(void) {}

AICI_EXPORT(aici_create) uint32_t aici_create(void) {
  trie = aici_load_trie();
  mask = aici_alloc(4 * (trie.vocab / 32 + 1));
  numbers = aici_alloc(4 * NUMBERS);
  json = aici_alloc(JSON_BYTES);
  return 1;
}

static uint32_t read_argument(const char *key) {
  uint32_t size = aici_host_read_blob(aici_host_process_arg(), json, JSON_BYTES);
  uint32_t count = size > JSON_BYTES ? NUMBERS + 1 : aici_numbers(json, size, key, numbers, NUMBERS);
  if (count > NUMBERS) aici_host_stop();
  return count;
}

AICI_EXPORT(aici_init_prompt) void aici_init_prompt(uint32_t self) {
  (void)self;
  uint32_t count = read_argument("prompt");
  if (count <= 1) {
    uint32_t blob = aici_host_tokenize(OPENING, sizeof OPENING - 1);
    count += aici_host_read_blob(blob, numbers + count, 4 * (NUMBERS - count)) / 4;
  }
  aici_text answer = {json, 0, JSON_BYTES};
  aici_put(&answer, "{\"prompt\":");
  aici_put_tokens(&answer, numbers, count);
  aici_put(&answer, "}");
  aici_return_text(&answer);
}

/* A state is one more than how many bytes came since the last upper-case one was due. */
static uint32_t next(void *machine, uint32_t state, uint8_t byte) {
  (void)machine;
  if (state == PERIOD) return byte >= 'A' && byte <= 'Z' ? 1 : 0;
  return byte >= 'A' && byte <= 'Z' ? 0 : state + 1;
}

AICI_EXPORT(aici_mid_process) void aici_mid_process(uint32_t self) {
  (void)self;
  uint32_t count = read_argument("tokens");
  for (uint32_t i = 0; i < count; i++) bytes += numbers[i] < trie.vocab ? aici_token_size(&trie, numbers[i]) : 0;
  drawn += count;
  if (drawn > TOKENS) {
    aici_return("{\"branches\":[]}");
    return;
  }
  for (uint32_t i = 0; i <= trie.vocab / 32; i++) mask[i] = 0;
  aici_allow_where(&trie, mask, 0, bytes % PERIOD + 1, next);
  aici_text answer = {json, 0, JSON_BYTES};
  aici_put(&answer, "{\"branches\":[{\"sample_mask\":");
  aici_put_number(&answer, aici_host_return_logit_bias(mask));
  aici_put(&answer, ",\"temperature\":null,\"splices\":[]}]}");
  aici_return_text(&answer);
}
