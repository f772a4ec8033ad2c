/* The controller's exports, over a JavaScript engine: loads the library, then the program, and hands it each callback.
 *
 * With DECLARATIVE the program is declctrl, which reads the argument itself; else the argument is the program. */
#include "host.h"

#include <stdlib.h>
#include <string.h>

enum { STACK_BYTES = 192 << 10, JOBS = 10000, ROUNDS = 10000 };

void _initialize(void);

typedef struct { const char *name, *text; size_t size; } source;
static const char HOST_JS[] = {
#embed "lib/host.js"
    , 0};
static const char TEXT_JS[] = {
#embed "lib/text.js"
    , 0};
static const char SEQUENCE_JS[] = {
#embed "lib/sequence.js"
    , 0};
static const char GEN_JS[] = {
#embed "lib/gen.js"
    , 0};
static const char AICI_JS[] = {
#embed "lib/aici.js"
    , 0};
#ifdef DECLARATIVE
static const char PROGRAM_JS[] = {
#embed "../declctrl/declctrl.js"
    , 0};
#endif
static const source SOURCES[] = {
    {"aici/host", HOST_JS, sizeof HOST_JS - 1},
    {"aici/text", TEXT_JS, sizeof TEXT_JS - 1},
    {"aici/sequence", SEQUENCE_JS, sizeof SEQUENCE_JS - 1},
    {"aici/gen", GEN_JS, sizeof GEN_JS - 1},
    {"aici", AICI_JS, sizeof AICI_JS - 1},
};

static JSRuntime *runtime;
static JSContext *context;

/* Says what went wrong and gives up. */
static void panic(JSValue error) {
  const char *text = JS_ToCString(context, error);
  JSValue trace = JS_IsObject(error) ? JS_GetPropertyStr(context, error, "stack") : JS_UNDEFINED;
  const char *stack = JS_IsUndefined(trace) ? NULL : JS_ToCString(context, trace);
  host_log("panic:\n", 7);
  if (text) host_log(text, strlen(text));
  if (stack) host_log("\n", 1), host_log(stack, strlen(stack));
  aici_host_stop();
  abort();
}

static JSValue must(JSValue value) {
  if (JS_IsException(value)) panic(JS_GetException(context));
  return value;
}

static void run_jobs(void) {
  JSContext *unused;
  for (int i = 0;; i++) {
    int more = JS_ExecutePendingJob(runtime, &unused);
    if (more < 0) panic(JS_GetException(context));
    if (!more) return;
    if (i == JOBS) panic(JS_NewString(context, "the program awaits without end"));
  }
}

static JSModuleDef *load(JSContext *where, const char *name, void *nothing) {
  (void)nothing;
  for (size_t i = 0; i < sizeof SOURCES / sizeof *SOURCES; i++) {
    if (strcmp(SOURCES[i].name, name)) continue;
    JSValue module = JS_Eval(where, SOURCES[i].text, SOURCES[i].size, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(module)) return NULL;
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JS_FreeValue(where, module);
    return definition;
  }
  JS_ThrowReferenceError(where, "there is no module %s: a program can import \"aici\" only", name);
  return NULL;
}

static char *name_as_it_is(JSContext *where, const char *base, const char *name, void *nothing) {
  (void)base, (void)nothing;
  return js_strdup(where, name);
}

static void evaluate(const char *text, size_t size, const char *name) {
  JSValue done = must(JS_Eval(context, text, size, name, JS_EVAL_TYPE_MODULE));
  run_jobs();
  if (JS_PromiseState(context, done) == JS_PROMISE_REJECTED) panic(JS_PromiseResult(context, done));
  JS_FreeValue(context, done);
}

static JSValue call(int which, bool with_argument) {
  JSValue argument = JS_UNDEFINED;
  if (JS_IsUndefined(host_callbacks[which])) panic(JS_NewString(context, "the program has not called start()"));
  if (with_argument) {
    uint32_t size;
    char *json = host_blob(aici_host_process_arg(), &size);
    argument = must(JS_ParseJSON(context, json, size, "argument"));
    free(json);
  }
  JSValue value = must(JS_Call(context, host_callbacks[which], JS_UNDEFINED, 1, &argument));
  JS_FreeValue(context, argument);
  run_jobs();
  return value;
}

static void answer(JSValue json) {
  size_t size;
  const char *text = JS_ToCStringLen(context, &size, json);
  if (!text) panic(JS_GetException(context));
  aici_host_return_process_result(text, (uint32_t)size);
  JS_FreeCString(context, text);
  JS_FreeValue(context, json);
}

AICI_EXPORT(aici_init) void aici_init(void) { _initialize(); }

AICI_EXPORT(aici_create) uint32_t aici_create(void) {
  for (int i = 0; i < 3; i++) host_callbacks[i] = JS_UNDEFINED;
  host_load();
  runtime = JS_NewRuntime();
  if (!runtime) abort();
  JS_SetMaxStackSize(runtime, STACK_BYTES);
  JS_SetModuleLoaderFunc(runtime, name_as_it_is, load, NULL);
  context = JS_NewContext(runtime);
  if (!context || !host_define(context)) abort();
  static const char LIBRARY[] = "import 'aici'; delete globalThis.__host;";
  evaluate(LIBRARY, sizeof LIBRARY - 1, "library");
#ifdef DECLARATIVE
  evaluate(PROGRAM_JS, sizeof PROGRAM_JS - 1, "declctrl");
#else
  uint32_t size;
  char *program = host_blob(aici_host_module_arg(), &size);
  evaluate(program, size, "main");
  free(program);
#endif
  if (JS_IsUndefined(host_callbacks[0])) panic(JS_NewString(context, "the program has not called start()"));
  return 1;
}

AICI_EXPORT(aici_init_prompt) void aici_init_prompt(uint32_t self) {
  (void)self;
  answer(call(0, true));
}

AICI_EXPORT(aici_mid_process) void aici_mid_process(uint32_t self) {
  (void)self;
  JS_FreeValue(context, call(1, true));
  for (int i = 0; i < ROUNDS; i++) {
    JSValue json = call(2, false);
    if (!JS_IsUndefined(json)) return answer(json);
  }
  panic(JS_NewString(context, "the program goes on without ever letting the model go on"));
}
