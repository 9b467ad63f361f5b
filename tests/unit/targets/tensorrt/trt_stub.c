/* The symbols that TensorRT's bindings look for when they are imported, in place of 2 GB of libraries. The types,
 * signatures and enumerations of the bindings are then all there; only making a Builder or a Runtime fails.
 * Compiled three times, with -DINFER, -DPARSER and -DPLUGIN. */
#include <stddef.h>

#ifdef INFER
void *createInferBuilder_INTERNAL(void) { return NULL; }
void *createInferRefitter_INTERNAL(void) { return NULL; }
void *createInferRuntime_INTERNAL(void) { return NULL; }
void *getBuilderPluginRegistry(void) { return NULL; }
void *getPluginRegistry(void) { return NULL; }
#endif
#ifdef PARSER
void *createNvOnnxParser_INTERNAL(void) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return NULL; }
int getNvOnnxParserVersion(void) { return 0; }
#endif
#ifdef PLUGIN
int initLibNvInferPlugins(void *logger, const char *name) { return logger || name; }
#endif
