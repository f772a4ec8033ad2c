#include "aici.h"

enum { MASK_BYTES = 65536, DIGITS = 9 };

static uint32_t left, *mask;

AICI_EXPORT(aici_init) void aici_init(void) {}

AICI_EXPORT(aici_create) uint32_t aici_create(void) {
  char argument[DIGITS];
  uint32_t size = aici_host_read_blob(aici_host_module_arg(), argument, DIGITS), end = aici_host_eos_token();
  for (uint32_t i = 0; i < size && i < DIGITS; i++) left = left * 10 + (uint32_t)(argument[i] - '0');
  mask = aici_alloc(MASK_BYTES);
  for (uint32_t i = 0; i < MASK_BYTES / 4; i++) mask[i] = UINT32_MAX;
  mask[end / 32] &= ~(1u << end % 32);
  return 1;
}

AICI_EXPORT(aici_init_prompt) void aici_init_prompt(uint32_t self) {
  (void)self;
  uint32_t blob = aici_host_process_arg(), size = aici_host_read_blob(blob, 0, 0);
  char *prompt = aici_alloc(size); /* what is told has the form of what is answered */
  aici_host_read_blob(blob, prompt, size);
  aici_host_return_process_result(prompt, size);
}

AICI_EXPORT(aici_mid_process) void aici_mid_process(uint32_t self) {
  (void)self;
  if (left == 0) {
    aici_return("{\"branches\":[]}");
    return;
  }
  left--;
  char room[80];
  aici_text answer = {room, 0, sizeof room};
  aici_put(&answer, "{\"branches\":[{\"sample_mask\":");
  aici_put_number(&answer, aici_host_return_logit_bias(mask));
  aici_put(&answer, ",\"splices\":[]}]}");
  aici_return_text(&answer);
}
