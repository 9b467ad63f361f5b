/* libcuda.so.1 on the host's memory, compiled against the official cuda.h.
 *
 * Streams are threads that take their operations one after the other, so that order, waiting and overlap are real; a
 * graph is a list of operations that a launch repeats. Copies must lie inside one allocation each, and calls that need
 * a current context fail without one. Only what cuda.core asks for.
 *
 * MOCK_CUDA_NO_DEVICE: there is none. MOCK_CUDA_MEMORY: bytes of device memory. MOCK_CUDA_NAME, MOCK_CUDA_SM ("89").
 * There are two devices, alike but for their UUIDs.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default"))) CUresult CUDAAPI
#define OK CUDA_SUCCESS
#define UNUSED __attribute__((unused))

enum kind { COPY, SET, KERNEL, EVENT, WAIT, GRAPH, FREE };

struct op {
  enum kind kind;
  char *to;
  const char *from;
  size_t bytes;
  unsigned value; /* byte (SET), microseconds (KERNEL) */
  struct CUevent_st *event;
  struct CUgraph_st *graph;
  struct op *next;
};

struct CUgraph_st { struct op *first, *last; };
struct CUgraphExec_st { struct CUgraph_st graph; };
struct CUevent_st { unsigned flags; double at_ms; int pending, recorded; };
enum { DEVICES = 2 };
struct CUctx_st { int unused; };
struct CUmemPoolHandle_st { int unused; };
struct CUstream_st {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct op *first, *last;
  int busy, end, capturing;
  CUcontext context;
  unsigned number, flags;
  struct CUgraph_st *graph;
};
struct block { char *at; size_t bytes; int pinned; struct block *next; };

static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t events = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t event_done = PTHREAD_COND_INITIALIZER;
static struct block *blocks;
static size_t device_bytes;
static int live_streams, live_events, live_graphs, live_pools, streams_made;
static CUresult sticky = CUDA_SUCCESS;
static char journal[1 << 20];
static size_t journal_bytes;
static struct CUctx_st contexts[DEVICES];
static struct CUmemPoolHandle_st pool;
static __thread CUcontext current;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static size_t device_memory(void) {
  const char *s = getenv("MOCK_CUDA_MEMORY");
  return s ? strtoull(s, 0, 10) : 85520809984ull;
}

static struct block *block_of(const void *at, size_t bytes) {
  for (struct block *b = blocks; b; b = b->next)
    if ((const char *)at >= b->at && (const char *)at + bytes <= b->at + b->bytes) return b;
  return NULL;
}

static void note(unsigned stream, const char *what, size_t bytes) {
  pthread_mutex_lock(&table);
  if (journal_bytes + 64 < sizeof journal)
    journal_bytes += (size_t)snprintf(journal + journal_bytes, 64, "%u %s %zu\n", stream, what, bytes);
  pthread_mutex_unlock(&table);
}

static void run(struct CUstream_st *stream, struct op *op) {
  switch (op->kind) {
    case COPY: {
      pthread_mutex_lock(&table);
      struct block *to = block_of(op->to, op->bytes), *from = block_of(op->from, op->bytes);
      const char *what = !to || !from ? "wild" : from->pinned && !to->pinned ? "h2d" : !from->pinned && to->pinned ? "d2h" : "copy";
      pthread_mutex_unlock(&table);
      note(stream->number, what, op->bytes);
      if (!to || !from) sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
      else memcpy(op->to, op->from, op->bytes);
      break;
    }
    case SET: memset(op->to, (int)op->value, op->bytes); break;
    case KERNEL: {
      struct timespec t = {op->value / 1000000, (long)(op->value % 1000000) * 1000};
      nanosleep(&t, NULL);
      pthread_mutex_lock(&table);
      int fits = block_of(op->to, op->bytes) && block_of(op->from, op->bytes);
      pthread_mutex_unlock(&table);
      note(stream->number, "kernel", op->bytes);
      if (!fits) sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
      else for (size_t i = 0; i < op->bytes; i++) op->to[i] = (char)~op->from[i];
      break;
    }
    case EVENT:
      pthread_mutex_lock(&events);
      op->event->at_ms = now_ms();
      op->event->pending--;
      pthread_cond_broadcast(&event_done);
      pthread_mutex_unlock(&events);
      note(stream->number, "event", 0);
      break;
    case WAIT:
      pthread_mutex_lock(&events);
      while (op->event->pending) pthread_cond_wait(&event_done, &events);
      pthread_mutex_unlock(&events);
      break;
    case GRAPH:
      note(stream->number, "graph", 0);
      for (struct op *one = op->graph->first; one; one = one->next) run(stream, one);
      break;
    case FREE: free(op->to); break;
  }
}

static void *work(void *argument) {
  struct CUstream_st *stream = argument;
  pthread_mutex_lock(&stream->lock);
  while (1) {
    while (!stream->first && !stream->end) pthread_cond_wait(&stream->changed, &stream->lock);
    struct op *op = stream->first;
    if (!op) break;
    stream->first = op->next;
    if (!stream->first) stream->last = NULL;
    stream->busy = 1;
    pthread_mutex_unlock(&stream->lock);
    run(stream, op);
    free(op);
    pthread_mutex_lock(&stream->lock);
    stream->busy = 0;
    pthread_cond_broadcast(&stream->changed);
  }
  pthread_mutex_unlock(&stream->lock);
  return NULL;
}

static CUresult submit(CUstream stream, struct op op) {
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  if (sticky) return sticky;
  if ((unsigned long)stream <= 2) return CUDA_ERROR_NOT_SUPPORTED; /* nothing here should use a default stream */
  struct op *mine = malloc(sizeof *mine);
  *mine = op;
  mine->next = NULL;
  pthread_mutex_lock(&stream->lock);
  if (stream->capturing) {
    if (stream->graph->last) stream->graph->last->next = mine; else stream->graph->first = mine;
    stream->graph->last = mine;
  } else {
    if (op.kind == EVENT) {
      pthread_mutex_lock(&events);
      op.event->pending++;
      op.event->recorded = 1;
      pthread_mutex_unlock(&events);
    }
    if (stream->last) stream->last->next = mine; else stream->first = mine;
    stream->last = mine;
    pthread_cond_broadcast(&stream->changed);
  }
  pthread_mutex_unlock(&stream->lock);
  return OK;
}

/* For the tests */
API mock_kernel(CUstream s, CUdeviceptr to, CUdeviceptr from, size_t n, unsigned us) {
  if (s->context != current) return CUDA_ERROR_INVALID_HANDLE;
  return submit(s, (struct op){.kind = KERNEL, .to = (char *)to, .from = (const char *)from, .bytes = n, .value = us});
}
API mock_journal(char *to, size_t n) {
  pthread_mutex_lock(&table);
  snprintf(to, n, "%.*s", (int)journal_bytes, journal);
  journal_bytes = 0;
  pthread_mutex_unlock(&table);
  return OK;
}
API mock_break(void) { sticky = CUDA_ERROR_ILLEGAL_ADDRESS; return OK; }
API mock_live(long *device, long *pinned, int *streams, int *event_count, int *graphs, int *pools) {
  *device = *pinned = 0;
  pthread_mutex_lock(&table);
  for (struct block *b = blocks; b; b = b->next) *(b->pinned ? pinned : device) += (long)b->bytes;
  pthread_mutex_unlock(&table);
  *streams = live_streams, *event_count = live_events, *graphs = live_graphs, *pools = live_pools;
  return OK;
}

/* Device and context */
API cuInit(unsigned f UNUSED) { return getenv("MOCK_CUDA_NO_DEVICE") ? CUDA_ERROR_NO_DEVICE : OK; }
API cuDriverGetVersion(int *v) { *v = 13000; return OK; }
API cuDeviceGetCount(int *n) { *n = getenv("MOCK_CUDA_NO_DEVICE") ? 0 : DEVICES; return OK; }
API cuDeviceGet(CUdevice *d, int i) { if (i >= DEVICES) return CUDA_ERROR_INVALID_DEVICE; *d = i; return OK; }
API cuDeviceGetName(char *n, int l, CUdevice d UNUSED) {
  const char *s = getenv("MOCK_CUDA_NAME");
  snprintf(n, (size_t)l, "%s", s ? s : "NVIDIA H100 80GB HBM3");
  return OK;
}
API cuDeviceGetUuid_v2(CUuuid *u, CUdevice d) { memset(u, 0x11 * (d + 1), sizeof *u); return OK; }
API cuDeviceTotalMem_v2(size_t *b, CUdevice d UNUSED) { *b = device_memory(); return OK; }
API cuDeviceGetPCIBusId(char *b, int l, CUdevice d UNUSED) { snprintf(b, (size_t)l, "0000:00:05.0"); return OK; }
API cuDeviceGetAttribute(int *p, CUdevice_attribute a, CUdevice d UNUSED) {
  const char *sm = getenv("MOCK_CUDA_SM");
  int number = sm ? atoi(sm) : 90;
  switch ((int)a) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *p = number / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *p = number % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *p = 132; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *p = 32; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *p = 1; break;
    default: *p = 0;
  }
  return OK;
}
API cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) { *c = &contexts[d]; return OK; }
API cuDevicePrimaryCtxRelease_v2(CUdevice d UNUSED) { return OK; }
API cuDevicePrimaryCtxGetState(CUdevice d UNUSED, unsigned *f, int *a) { *f = 0; *a = 1; return OK; }
API cuCtxGetCurrent(CUcontext *c) { *c = current; return OK; }
API cuCtxSetCurrent(CUcontext c) { current = c; return OK; }
API cuCtxPushCurrent_v2(CUcontext c) { current = c; return OK; }
API cuCtxPopCurrent_v2(CUcontext *c) { if (c) *c = current; current = 0; return OK; }
API cuCtxGetDevice(CUdevice *d) { *d = current ? (CUdevice)(current - contexts) : 0; return current ? OK : CUDA_ERROR_INVALID_CONTEXT; }
API cuCtxGetDevice_v2(CUdevice *d, CUcontext c) { *d = (CUdevice)(c - contexts); return OK; }
API cuCtxSynchronize(void) { return sticky; }
API cuCtxGetId(CUcontext c UNUSED, unsigned long long *i) { *i = 1; return OK; }
API cuCtxGetStreamPriorityRange(int *l, int *g) { *l = 0; *g = -5; return OK; }
API cuCtxGetFlags(unsigned *f) { *f = 0; return OK; }

/* Streams */
API cuStreamCreateWithPriority(CUstream *s, unsigned f, int p UNUSED) {
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  struct CUstream_st *made = calloc(1, sizeof *made);
  pthread_mutex_init(&made->lock, NULL);
  pthread_cond_init(&made->changed, NULL);
  made->flags = f, made->context = current;
  pthread_mutex_lock(&table);
  made->number = (unsigned)++streams_made, live_streams++;
  pthread_mutex_unlock(&table);
  pthread_create(&made->thread, NULL, work, made);
  *s = made;
  return OK;
}
API cuStreamCreate(CUstream *s, unsigned f) { return cuStreamCreateWithPriority(s, f, 0); }
API cuStreamDestroy_v2(CUstream s) {
  pthread_mutex_lock(&s->lock);
  s->end = 1;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  pthread_join(s->thread, NULL);
  free(s);
  pthread_mutex_lock(&table);
  live_streams--;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuStreamSynchronize(CUstream s) {
  if ((unsigned long)s <= 2) return OK; /* nothing was queued there */
  pthread_mutex_lock(&s->lock);
  if (s->capturing) { pthread_mutex_unlock(&s->lock); return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; }
  while (s->first || s->busy) pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
  return sticky;
}
API cuStreamQuery(CUstream s) {
  pthread_mutex_lock(&s->lock);
  int waiting = s->first || s->busy;
  pthread_mutex_unlock(&s->lock);
  return waiting ? CUDA_ERROR_NOT_READY : OK;
}
API cuStreamWaitEvent(CUstream s, CUevent e, unsigned f UNUSED) { return submit(s, (struct op){.kind = WAIT, .event = e}); }
API cuStreamGetCtx(CUstream s, CUcontext *c) { *c = s->context; return OK; }
API cuStreamGetCtx_v2(CUstream s, CUcontext *c, CUgreenCtx *g) { *c = s->context; *g = 0; return OK; }
API cuStreamGetFlags(CUstream s, unsigned *f) { *f = s->flags; return OK; }
API cuStreamGetPriority(CUstream s UNUSED, int *p) { *p = 0; return OK; }
API cuStreamGetDevice(CUstream s, CUdevice *d) { *d = (CUdevice)(s->context - contexts); return OK; }
API cuStreamGetId(CUstream s, unsigned long long *i) { *i = s->number; return OK; }

/* Events */
API cuEventCreate(CUevent *e, unsigned f) {
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  *e = calloc(1, sizeof **e);
  (*e)->flags = f;
  pthread_mutex_lock(&table);
  live_events++;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuEventRecord(CUevent e, CUstream s) { return submit(s, (struct op){.kind = EVENT, .event = e}); }
API cuEventRecordWithFlags(CUevent e, CUstream s, unsigned f UNUSED) { return cuEventRecord(e, s); }
API cuEventSynchronize(CUevent e) {
  pthread_mutex_lock(&events);
  while (e->pending) pthread_cond_wait(&event_done, &events);
  pthread_mutex_unlock(&events);
  return sticky;
}
API cuEventQuery(CUevent e) { return e->pending ? CUDA_ERROR_NOT_READY : OK; }
API cuEventDestroy_v2(CUevent e) {
  free(e);
  pthread_mutex_lock(&table);
  live_events--;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuEventElapsedTime_v2(float *ms, CUevent a, CUevent b) {
  if ((a->flags | b->flags) & CU_EVENT_DISABLE_TIMING || !a->recorded || !b->recorded) return CUDA_ERROR_INVALID_HANDLE;
  if (a->pending || b->pending) return CUDA_ERROR_NOT_READY;
  *ms = (float)(b->at_ms - a->at_ms);
  return OK;
}
#undef cuEventElapsedTime
API cuEventElapsedTime(float *ms, CUevent a, CUevent b) { return cuEventElapsedTime_v2(ms, a, b); }

/* Memory */
static CUresult take(void **p, size_t n, int pinned) {
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  if (sticky) return sticky;
  pthread_mutex_lock(&table);
  if (!pinned && device_bytes + n > device_memory()) { pthread_mutex_unlock(&table); return CUDA_ERROR_OUT_OF_MEMORY; }
  struct block *b = malloc(sizeof *b);
  b->bytes = n ? n : 1;
  b->pinned = pinned;
  if (posix_memalign((void **)&b->at, 512, b->bytes)) abort();
  memset(b->at, 0xA5, b->bytes); /* nobody should rely on zeros */
  b->next = blocks, blocks = b;
  if (!pinned) device_bytes += n;
  pthread_mutex_unlock(&table);
  *p = b->at;
  return OK;
}
static CUresult give(void *p) {
  pthread_mutex_lock(&table);
  for (struct block **b = &blocks; *b; b = &(*b)->next)
    if ((*b)->at == p) {
      struct block *gone = *b;
      *b = gone->next;
      if (!gone->pinned) device_bytes -= gone->bytes;
      free(gone->at), free(gone);
      pthread_mutex_unlock(&table);
      return OK;
    }
  pthread_mutex_unlock(&table);
  return CUDA_ERROR_INVALID_VALUE;
}
API cuMemAlloc_v2(CUdeviceptr *p, size_t n) { return take((void **)p, n, 0); }
API cuMemFree_v2(CUdeviceptr p) { return give((void *)p); }
API cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream s UNUSED) { return take((void **)p, n, 0); }
API cuMemFreeAsync(CUdeviceptr p, CUstream s UNUSED) { return give((void *)p); }
API cuMemAllocFromPoolAsync(CUdeviceptr *p, size_t n, CUmemoryPool m UNUSED, CUstream s UNUSED) { return take((void **)p, n, 0); }
API cuMemHostAlloc(void **p, size_t n, unsigned f UNUSED) { return take(p, n, 1); }
API cuMemAllocHost_v2(void **p, size_t n) { return take(p, n, 1); }
API cuMemFreeHost(void *p) { return give(p); }
API cuMemGetInfo_v2(size_t *f, size_t *t) { *t = device_memory(); *f = *t - device_bytes; return OK; }
API cuMemcpyAsync(CUdeviceptr d, CUdeviceptr f, size_t n, CUstream s) {
  return submit(s, (struct op){.kind = COPY, .to = (char *)d, .from = (const char *)f, .bytes = n});
}
API cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void *f, size_t n, CUstream s) { return cuMemcpyAsync(d, (CUdeviceptr)f, n, s); }
API cuMemcpyDtoHAsync_v2(void *d, CUdeviceptr f, size_t n, CUstream s) { return cuMemcpyAsync((CUdeviceptr)d, f, n, s); }
API cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream s) {
  return submit(s, (struct op){.kind = SET, .to = (char *)d, .bytes = n, .value = v});
}
API cuDeviceGetMemPool(CUmemoryPool *p, CUdevice d UNUSED) { *p = &pool; return OK; }
API cuDeviceGetDefaultMemPool(CUmemoryPool *p, CUdevice d UNUSED) { *p = &pool; return OK; }
API cuMemGetMemPool(CUmemoryPool *p, CUmemLocation *l UNUSED, CUmemAllocationType t UNUSED) { *p = &pool; return OK; }
API cuMemGetDefaultMemPool(CUmemoryPool *p, CUmemLocation *l UNUSED, CUmemAllocationType t UNUSED) { *p = &pool; return OK; }
API cuMemPoolGetAttribute(CUmemoryPool p UNUSED, CUmemPool_attribute a UNUSED, void *v) { *(unsigned long long *)v = 0; return OK; }
API cuMemPoolSetAttribute(CUmemoryPool p UNUSED, CUmemPool_attribute a UNUSED, void *v UNUSED) { return OK; }
API cuMemPoolCreate(CUmemoryPool *p, const CUmemPoolProps *q UNUSED) {
  *p = calloc(1, sizeof **p);
  pthread_mutex_lock(&table);
  live_pools++;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuMemPoolDestroy(CUmemoryPool p) {
  free(p);
  pthread_mutex_lock(&table);
  live_pools--;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuMemPoolSetAccess(CUmemoryPool p UNUSED, const CUmemAccessDesc *a UNUSED, size_t n UNUSED) { return OK; }
API cuMemPoolTrimTo(CUmemoryPool p UNUSED, size_t n UNUSED) { return OK; }
API cuMemPoolGetAccess(CUmemAccess_flags *f, CUmemoryPool p UNUSED, CUmemLocation *l UNUSED) { *f = 3; return OK; }
API cuPointerGetAttributes(unsigned n, CUpointer_attribute *a, void **d, CUdeviceptr p) {
  pthread_mutex_lock(&table);
  struct block *b = block_of((void *)p, 1);
  unsigned type = !b || b->pinned ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  pthread_mutex_unlock(&table);
  for (unsigned i = 0; i < n; i++)
    if (d[i]) *(unsigned *)d[i] = a[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE ? type : 0;
  return OK;
}

/* Graphs */
API cuStreamBeginCapture_v2(CUstream s, CUstreamCaptureMode m UNUSED) {
  pthread_mutex_lock(&s->lock);
  s->capturing = 1;
  s->graph = calloc(1, sizeof *s->graph);
  pthread_mutex_unlock(&s->lock);
  pthread_mutex_lock(&table);
  live_graphs++;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuStreamEndCapture(CUstream s, CUgraph *g) {
  if (!s->capturing) return CUDA_ERROR_ILLEGAL_STATE;
  s->capturing = 0;
  *g = s->graph;
  return OK;
}
API cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *c) {
  *c = (unsigned long)s > 2 && s->capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return OK;
}
API cuStreamGetCaptureInfo_v3(CUstream s, CUstreamCaptureStatus *c, cuuint64_t *id, CUgraph *g, const CUgraphNode **d,
                              const CUgraphEdgeData **e, size_t *n) {
  cuStreamIsCapturing(s, c);
  if (id) *id = 1;
  if (g) *g = s->graph;
  if (d) *d = 0;
  if (e) *e = 0;
  if (n) *n = 0;
  return OK;
}
API cuStreamGetCaptureInfo_v2(CUstream s, CUstreamCaptureStatus *c, cuuint64_t *id, CUgraph *g, const CUgraphNode **d, size_t *n) {
  return cuStreamGetCaptureInfo_v3(s, c, id, g, d, 0, n);
}
API cuGraphInstantiateWithFlags(CUgraphExec *e, CUgraph g, unsigned long long f UNUSED) {
  *e = calloc(1, sizeof **e);
  for (struct op *one = g->first; one; one = one->next) {
    struct op *copy = malloc(sizeof *copy);
    *copy = *one, copy->next = NULL;
    if ((*e)->graph.last) (*e)->graph.last->next = copy; else (*e)->graph.first = copy;
    (*e)->graph.last = copy;
  }
  pthread_mutex_lock(&table);
  live_graphs++;
  pthread_mutex_unlock(&table);
  return OK;
}
API cuGraphInstantiateWithParams(CUgraphExec *e, CUgraph g, CUDA_GRAPH_INSTANTIATE_PARAMS *p) {
  p->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return cuGraphInstantiateWithFlags(e, g, 0);
}
API cuGraphLaunch(CUgraphExec e, CUstream s) { return submit(s, (struct op){.kind = GRAPH, .graph = &e->graph}); }
API cuGraphUpload(CUgraphExec e UNUSED, CUstream s UNUSED) { return OK; }
static void drop(struct CUgraph_st *graph) {
  for (struct op *one = graph->first, *next; one; one = next) next = one->next, free(one);
  pthread_mutex_lock(&table);
  live_graphs--;
  pthread_mutex_unlock(&table);
}
API cuGraphExecDestroy(CUgraphExec e) { drop(&e->graph); free(e); return OK; }
API cuGraphDestroy(CUgraph g) { drop(g); free(g); return OK; }
API cuGraphExecGetFlags(CUgraphExec e UNUSED, cuuint64_t *f) { *f = 0; return OK; }
API cuGraphGetNodes(CUgraph g UNUSED, CUgraphNode *n UNUSED, size_t *k) { *k = 0; return OK; }
API cuUserObjectCreate(CUuserObject *o, void *p UNUSED, CUhostFn d UNUSED, unsigned n UNUSED, unsigned f UNUSED) { *o = calloc(1, 64); return OK; }
API cuUserObjectRelease(CUuserObject o UNUSED, unsigned n UNUSED) { return OK; }
API cuUserObjectRetain(CUuserObject o UNUSED, unsigned n UNUSED) { return OK; }
API cuGraphRetainUserObject(CUgraph g UNUSED, CUuserObject o UNUSED, unsigned n UNUSED, unsigned f UNUSED) { return OK; }
API cuGraphReleaseUserObject(CUgraph g UNUSED, CUuserObject o UNUSED, unsigned n UNUSED) { return OK; }

/* Errors and look-up */
API cuGetErrorName(CUresult e, const char **s) {
  *s = e == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == CUDA_ERROR_NO_DEVICE ? "CUDA_ERROR_NO_DEVICE"
     : e == CUDA_ERROR_INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : e == CUDA_ERROR_ILLEGAL_ADDRESS
     ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_MOCK";
  return OK;
}
API cuGetErrorString(CUresult e, const char **s) {
  *s = e == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : e == CUDA_ERROR_NO_DEVICE ? "no CUDA-capable device is detected"
     : e == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "mock error";
  return OK;
}
API cuGetExportTable(const void **t UNUSED, const CUuuid *u UNUSED) { return CUDA_ERROR_NOT_FOUND; }
API cuGetProcAddress_v2(const char *symbol, void **found, int version UNUSED, cuuint64_t flags UNUSED, CUdriverProcAddressQueryResult *status) {
  static const char *const endings[] = {"_v3", "_v2", ""};
  static void *self;
  if (!self) {
    Dl_info info;
    dladdr((void *)cuInit, &info);
    self = dlopen(info.dli_fname, RTLD_NOW);
  }
  *found = NULL;
  for (int i = 0; i < 3 && !*found; i++) {
    char name[200];
    snprintf(name, sizeof name, "%s%s", symbol, endings[i]);
    *found = dlsym(self, name);
  }
  if (status) *status = *found ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return *found ? OK : CUDA_ERROR_NOT_FOUND;
}
#undef cuGetProcAddress
API cuGetProcAddress(const char *symbol, void **found, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, found, version, flags, 0);
}
