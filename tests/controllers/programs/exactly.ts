@external("env", "aici_host_module_arg") declare function moduleArg(): u32;
@external("env", "aici_host_process_arg") declare function processArg(): u32;
@external("env", "aici_host_eos_token") declare function eosToken(): u32;
@external("env", "aici_host_read_blob") declare function readBlob(blob: u32, to: usize, size: u32): u32;
@external("env", "aici_host_return_logit_bias") declare function returnMask(mask: usize): u32;
@external("env", "aici_host_return_process_result") declare function returnResult(json: usize, size: u32): void;

const MASK_BYTES: usize = 65536;

let left: u32 = 0;
let mask: usize = 0;

function read(blob: u32): ArrayBuffer {
  const bytes = new ArrayBuffer(readBlob(blob, 0, 0));
  readBlob(blob, changetype<usize>(bytes), bytes.byteLength);
  return bytes;
}

function answer(bytes: ArrayBuffer): void {
  returnResult(changetype<usize>(bytes), bytes.byteLength);
}

export function aici_init(): void {}

export function aici_create(): u32 {
  left = u32(parseInt(String.UTF8.decode(read(moduleArg()))));
  mask = heap.alloc(MASK_BYTES);
  memory.fill(mask, 0xff, MASK_BYTES);
  const end = eosToken(), at = mask + (end >> 3);
  store<u8>(at, load<u8>(at) & ~(1 << u8(end & 7)));
  return 1;
}

export function aici_init_prompt(self: u32): void {
  answer(read(processArg())); // what is told has the form of what is answered
}

export function aici_mid_process(self: u32): void {
  if (left == 0) {
    answer(String.UTF8.encode('{"branches":[]}'));
    return;
  }
  left -= 1;
  answer(String.UTF8.encode('{"branches":[{"sample_mask":' + returnMask(mask).toString() + ',"splices":[]}]}'));
}
