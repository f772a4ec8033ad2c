/* Lets the model draw one token: the first one of "Yes" or of "No". Its argument says nothing. */
#include "../aici.h"

enum { JSON_BYTES = 1 << 16, TOKENS = 64 };

static uint32_t *mask, first[2], asked;
static char *json;

AICI_EXPORT(aici_init) void aici_init(void) {}

AICI_EXPORT(aici_create) uint32_t aici_create(void) {
  static const char *const WORDS[2] = {"Yes", "No"};
  uint32_t tokens[TOKENS], header[7];
  aici_host_read_blob(aici_host_token_trie(), header, sizeof header);
  mask = aici_alloc(4 * (header[5] / 32 + 1));
  for (uint32_t i = 0; i <= header[5] / 32; i++) mask[i] = 0;
  for (int i = 0; i < 2; i++) {
    uint32_t blob = aici_host_tokenize(WORDS[i], aici_length(WORDS[i]));
    if (aici_host_read_blob(blob, tokens, sizeof tokens) < 4 || tokens[0] >= header[5]) aici_host_stop();
    first[i] = tokens[0];
    aici_allow(mask, first[i]);
  }
  json = aici_alloc(JSON_BYTES);
  return 1;
}

AICI_EXPORT(aici_init_prompt) void aici_init_prompt(uint32_t self) {
  (void)self;
  uint32_t blob = aici_host_process_arg(), size = aici_host_read_blob(blob, 0, 0);
  char *prompt = aici_alloc(size + 1); /* what came in has the form of what goes out */
  aici_host_read_blob(blob, prompt, size);
  aici_host_return_process_result(prompt, size);
}

AICI_EXPORT(aici_mid_process) void aici_mid_process(uint32_t self) {
  (void)self;
  if (asked++) {
    aici_return("{\"branches\":[]}");
    return;
  }
  aici_text answer = {json, 0, JSON_BYTES};
  aici_put(&answer, "{\"branches\":[{\"sample_mask\":");
  aici_put_number(&answer, aici_host_return_logit_bias(mask));
  aici_put(&answer, ",\"temperature\":null,\"splices\":[]}]}");
  aici_return_text(&answer);
}
