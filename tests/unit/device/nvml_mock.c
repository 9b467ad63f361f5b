/* A libnvidia-ml.so.1 without a GPU, compiled against the official nvml.h and driven by the environment:
 *
 *   MOCK_NVML                     must be set; otherwise nvmlInit says that no driver is loaded
 *   MOCK_NVML_COUNT               number of GPUs (1)
 *   MOCK_NVML_NAME                product name ("NVIDIA Mock 80GB")
 *   MOCK_NVML_POWER_LIMIT_MW      power limit in mW (300000)
 *   MOCK_NVML_DRIVER              driver version ("580.65.06")
 *   MOCK_NVML_CUDA                CUDA version of the driver (13000)
 *   MOCK_NVML_ERROR_<function>    return code of that function, e.g. MOCK_NVML_ERROR_nvmlInitWithFlags=18
 *
 * What belongs to one GPU may be set for it alone, errors of functions that take it as well: MOCK_NVML_NAME_2 is the
 * name of the GPU of index 2. All times are seconds of CLOCK_MONOTONIC, unless said otherwise.
 *
 *   MOCK_NVML_POWER               watts: "constant:300", "square:LOW:HIGH:PERIOD" (low first), "ramp:FROM:TO:SECONDS"
 *   MOCK_NVML_EPOCH               when the waveform begins (0); before it and after a ramp's end its end values hold
 *   MOCK_NVML_TICK_S              how often the energy counter moves (0.1)
 *   MOCK_NVML_POWER_TICK_S        how often the power reading moves (as the counter)
 *   MOCK_NVML_RELOAD_AT           when the driver is reloaded, so that the counter begins anew
 *   MOCK_NVML_LOST_AT             from when on the GPU is lost
 *   MOCK_NVML_SM_MHZ, _MEM_MHZ, _TEMPERATURE, _REASONS, _MEMORY_MB, _UTILIZATION
 *                                 a value, or "value,TIME:value,...": each holds from its time on
 *   MOCK_NVML_PROCESSES           "PID:BYTES,PID:none,...": PID may be self, BYTES may be followed by :FROM_TIME
 *   MOCK_NVML_MIG                 slices as "SLOT:PROFILE,...", as "2:1g.10gb,5:2g.20gb"; none: MIG is off
 *   MOCK_NVML_CLOCKS_FILE         "lock UUID MIN MAX" and "reset UUID" are appended to it
 *
 * The UUID of GPU 2 is GPU-00000002-1111-2222-3333-444444444444, that of its slot 5 MIG-00000002-0005-.... As in the
 * real library nothing works before nvmlInit or after the last nvmlShutdown, a handle is checked, and a buffer that is
 * too small is an error.
 */
#define _GNU_SOURCE
#define NVML_NO_UNVERSIONED_FUNC_DEFS /* leaves nvmlInit and the like as they are: the versioned symbols are defined here */
#include <math.h>
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
#define SLOTS 7

struct nvmlDevice_st {
    unsigned index;
    int slot; /* -1: the whole GPU */
};

static struct nvmlDevice_st devices[MOST];
static struct nvmlDevice_st slices[MOST][SLOTS];
static int users;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static const char *device_setting(const char *name, unsigned index, const char *otherwise) {
    char own[128];
    snprintf(own, sizeof own, "%s_%u", name, index);
    return setting(own, setting(name, otherwise));
}

static nvmlReturn_t told(const char *function) {
    char name[128];
    snprintf(name, sizeof name, "MOCK_NVML_ERROR_%s", function);
    return (nvmlReturn_t)atoi(setting(name, "0"));
}

static nvmlReturn_t told_of(const char *function, unsigned index) {
    char name[112];
    snprintf(name, sizeof name, "MOCK_NVML_ERROR_%s", function);
    return (nvmlReturn_t)atoi(device_setting(name, index, "0"));
}

static unsigned count(void) {
    unsigned number = (unsigned)atoi(setting("MOCK_NVML_COUNT", "1"));
    return number < MOST ? number : MOST;
}

static int known(nvmlDevice_t device) {
    if (device >= devices && device < devices + count())
        return 1;
    return device >= &slices[0][0] && device < &slices[count()][0];
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double figure(const char *name, unsigned index, double otherwise) {
    const char *value = device_setting(name, index, NULL);
    return value ? atof(value) : otherwise;
}

/* "1980,12.5:1500": the last value whose time has come. */
static double stepped(const char *name, unsigned index, double otherwise) {
    const char *next = device_setting(name, index, NULL);
    double value = otherwise, at = now();
    while (next && *next) {
        const char *comma = strchr(next, ','), *colon = strchr(next, ':');
        if (!colon || (comma && colon > comma))
            value = strtod(next, NULL);
        else if (at >= strtod(next, NULL))
            value = strtod(colon + 1, NULL);
        next = comma ? comma + 1 : NULL;
    }
    return value;
}

/* Power, and its integral from the waveform's begin, at a time after that. */
static void waveform(unsigned index, double after, double *watts, double *joules) {
    const char *form = device_setting("MOCK_NVML_POWER", index, "constant:300");
    double a = 0, b = 0, span = 1;
    if (sscanf(form, "square:%lf:%lf:%lf", &a, &b, &span) == 3) {
        double periods = floor(after / span), rest = after - periods * span, half = span / 2;
        *watts = rest < half ? a : b;
        *joules = periods * half * (a + b) + (rest < half ? a * rest : a * half + b * (rest - half));
    } else if (sscanf(form, "ramp:%lf:%lf:%lf", &a, &b, &span) == 3) {
        double inside = after < 0 ? 0 : after > span ? span : after;
        *watts = a + (b - a) * inside / span;
        *joules = a * after + (b - a) * inside * inside / (2 * span) + (b - a) * (after - inside) * (after > span);
    } else {
        sscanf(form, "constant:%lf", &a);
        *watts = a;
        *joules = a * after;
    }
}

static double ticked(double after, double tick) {
    return floor(after / tick + 1e-9) * tick;
}

static nvmlReturn_t text(char *out, unsigned length, const char *value) {
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(value) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value);
    return NVML_SUCCESS;
}

#define TOLD                                                                                                           \
    do {                                                                                                               \
        nvmlReturn_t code = told(__func__);                                                                            \
        if (code != NVML_SUCCESS)                                                                                      \
            return code;                                                                                               \
    } while (0)
#define READY                                                                                                          \
    do {                                                                                                               \
        if (!users)                                                                                                    \
            return NVML_ERROR_UNINITIALIZED;                                                                           \
        TOLD;                                                                                                          \
    } while (0)
#define DEVICE                                                                                                         \
    READY;                                                                                                             \
    do {                                                                                                               \
        if (!known(device))                                                                                            \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        if (now() >= figure("MOCK_NVML_LOST_AT", device->index, INFINITY))                                             \
            return NVML_ERROR_GPU_IS_LOST;                                                                             \
        nvmlReturn_t own = told_of(__func__, device->index);                                                           \
        if (own != NVML_SUCCESS)                                                                                       \
            return own;                                                                                                \
    } while (0)
/* Of the whole board only. */
#define BOARD                                                                                                          \
    DEVICE;                                                                                                            \
    do {                                                                                                               \
        if (device->slot >= 0)                                                                                         \
            return NVML_ERROR_NOT_SUPPORTED;                                                                           \
    } while (0)

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    TOLD;
    if (!getenv("MOCK_NVML"))
        return NVML_ERROR_DRIVER_NOT_LOADED;
    for (unsigned index = 0; index < MOST; index++) {
        devices[index].index = index;
        devices[index].slot = -1;
        for (int slot = 0; slot < SLOTS; slot++) {
            slices[index][slot].index = index;
            slices[index][slot].slot = slot;
        }
    }
    users++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
    return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlShutdown(void) {
    READY;
    users--;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code) {
    switch (code) {
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    READY;
    return text(version, length, setting("MOCK_NVML_DRIVER", "580.65.06"));
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    READY;
    *version = atoi(setting("MOCK_NVML_CUDA", "13000"));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *number) {
    READY;
    *number = count();
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    READY;
    if (index >= count())
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = &devices[index];
    return told_of(__func__, index);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    char value[NVML_DEVICE_UUID_BUFFER_SIZE];
    DEVICE;
    if (device->slot < 0)
        snprintf(value, sizeof value, "GPU-%08u-1111-2222-3333-444444444444", device->index);
    else
        snprintf(value, sizeof value, "MIG-%08u-%04d-2222-3333-444444444444", device->index, device->slot);
    return text(uuid, length, value);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    char own[NVML_DEVICE_UUID_BUFFER_SIZE];
    READY;
    for (unsigned index = 0; index < count(); index++)
        if (nvmlDeviceGetUUID(&devices[index], own, sizeof own) == NVML_SUCCESS && !strcmp(own, uuid)) {
            *device = &devices[index];
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

/* The profile of a slot; 0 where it is empty. */
static int profile(unsigned index, int slot, char *out, size_t length) {
    const char *next = device_setting("MOCK_NVML_MIG", index, NULL);
    while (next && *next) {
        const char *comma = strchr(next, ','), *colon = strchr(next, ':');
        if (colon && atoi(next) == slot) {
            size_t size = comma ? (size_t)(comma - colon - 1) : strlen(colon + 1);
            snprintf(out, length, "%.*s", (int)size, colon + 1);
            return 1;
        }
        next = comma ? comma + 1 : NULL;
    }
    return 0;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    char own[32], value[NVML_DEVICE_NAME_V2_BUFFER_SIZE];
    const char *product;
    DEVICE;
    product = device_setting("MOCK_NVML_NAME", device->index, "NVIDIA Mock 80GB");
    if (device->slot >= 0 && profile(device->index, device->slot, own, sizeof own) && !getenv("MOCK_NVML_PLAIN_NAMES"))
        snprintf(value, sizeof value, "%s MIG %s", product, own);
    else
        snprintf(value, sizeof value, "%s", product);
    return text(name, length, value);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int *limit_mw) {
    BOARD;
    *limit_mw = (unsigned)atoi(device_setting("MOCK_NVML_POWER_LIMIT_MW", device->index, "300000"));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    BOARD;
    *current = *pending = device_setting("MOCK_NVML_MIG", device->index, NULL) != NULL;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *number) {
    BOARD;
    *number = SLOTS;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int slot, nvmlDevice_t *slice) {
    char own[32];
    BOARD;
    if (slot >= SLOTS || !profile(device->index, (int)slot, own, sizeof own))
        return NVML_ERROR_NOT_FOUND;
    *slice = &slices[device->index][slot];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    char own[32];
    unsigned part = 0, memory = 0;
    DEVICE;
    if (device->slot < 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    profile(device->index, device->slot, own, sizeof own);
    sscanf(own, "%ug.%ugb", &part, &memory);
    memset(attributes, 0, sizeof *attributes);
    attributes->gpuInstanceSliceCount = attributes->computeInstanceSliceCount = part;
    attributes->memorySizeMB = memory * 1024 - 256; /* the real ones lack a little, too */
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy_mj) {
    double watts, joules, before = 0, at = now(), reload_at;
    BOARD;
    double epoch = figure("MOCK_NVML_EPOCH", device->index, 0);
    double after = ticked(at - epoch, figure("MOCK_NVML_TICK_S", device->index, 0.1));
    waveform(device->index, after, &watts, &joules);
    reload_at = figure("MOCK_NVML_RELOAD_AT", device->index, INFINITY);
    if (at >= reload_at)
        waveform(device->index, reload_at - epoch, &watts, &before);
    joules -= before;
    if (at < reload_at)
        joules += 1e6;
    *energy_mj = (unsigned long long)((joules > 0 ? joules : 0) * 1e3 + 0.5);
    return NVML_SUCCESS;
}

static unsigned power_mw(nvmlDevice_t device) {
    double watts, joules, tick = figure("MOCK_NVML_TICK_S", device->index, 0.1);
    double after = now() - figure("MOCK_NVML_EPOCH", device->index, 0);
    waveform(device->index, ticked(after, figure("MOCK_NVML_POWER_TICK_S", device->index, tick)), &watts, &joules);
    return (unsigned)(watts * 1e3 + 0.5);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    BOARD;
    *milliwatts = power_mw(device);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int length, nvmlFieldValue_t *values) {
    BOARD;
    for (int i = 0; i < length; i++) {
        nvmlReturn_t instant = told("POWER_INSTANT");
        values[i].nvmlReturn = values[i].fieldId == NVML_FI_DEV_POWER_INSTANT ? instant : NVML_ERROR_NOT_SUPPORTED;
        values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        values[i].value.uiVal = power_mw(device);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BOARD;
    *mhz = (unsigned)(type == NVML_CLOCK_MEM ? stepped("MOCK_NVML_MEM_MHZ", device->index, 2619)
                                             : stepped("MOCK_NVML_SM_MHZ", device->index, 1980));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BOARD;
    *mhz = type == NVML_CLOCK_MEM ? 2619 : 1980;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    BOARD;
    if (temperature->version != nvmlTemperature_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    temperature->temperature = (int)stepped("MOCK_NVML_TEMPERATURE", device->index, 55);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    (void)sensor;
    BOARD;
    *celsius = (unsigned)stepped("MOCK_NVML_TEMPERATURE", device->index, 55);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    BOARD;
    *reasons = (unsigned long long)stepped("MOCK_NVML_REASONS", device->index, nvmlClocksEventReasonGpuIdle);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    BOARD;
    *reasons = (unsigned long long)stepped("MOCK_NVML_REASONS", device->index, nvmlClocksEventReasonGpuIdle);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    DEVICE;
    memory->total = 80ull << 30;
    memory->used = (unsigned long long)(stepped("MOCK_NVML_MEMORY_MB", device->index, 2048) * 1048576);
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    BOARD;
    if (device_setting("MOCK_NVML_MIG", device->index, NULL))
        return NVML_ERROR_NOT_SUPPORTED;
    rates->gpu = (unsigned)stepped("MOCK_NVML_UTILIZATION", device->index, 97);
    rates->memory = 31;
    return NVML_SUCCESS;
}

static nvmlReturn_t listed(nvmlDevice_t device, unsigned *length, nvmlProcessInfo_t *processes) {
    const char *next;
    unsigned found = 0, room = *length;
    next = device_setting("MOCK_NVML_PROCESSES", device->index, NULL);
    while (next && *next) {
        char pid[32], memory[32];
        double from = 0;
        const char *comma = strchr(next, ',');
        if (sscanf(next, "%31[^:,]:%31[^:,]:%lf", pid, memory, &from) >= 2 && now() >= from) {
            if (processes && found < room) {
                memset(&processes[found], 0, sizeof *processes);
                processes[found].pid = strcmp(pid, "self") ? (unsigned)atoi(pid) : (unsigned)getpid();
                processes[found].usedGpuMemory =
                    strcmp(memory, "none") ? strtoull(memory, NULL, 10) : (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
            }
            found++;
        }
        next = comma ? comma + 1 : NULL;
    }
    *length = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *length,
                                                     nvmlProcessInfo_t *processes) {
    DEVICE;
    return listed(device, length, processes);
}

/* What drivers before R510 have. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *length,
                                                     nvmlProcessInfo_v2_t *processes) {
    DEVICE;
    return listed(device, length, (nvmlProcessInfo_t *)processes); /* the same fields */
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    BOARD;
    *mode = (nvmlEnableState_t)figure("MOCK_NVML_PERSISTENCE", device->index, 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
    BOARD;
    *current = *pending = (nvmlEnableState_t)figure("MOCK_NVML_ECC", device->index, 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, unsigned int *generation) {
    BOARD;
    *generation = (unsigned)figure("MOCK_NVML_PCIE_GEN", device->index, 5);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned int *width) {
    BOARD;
    *width = (unsigned)figure("MOCK_NVML_PCIE_WIDTH", device->index, 16);
    return NVML_SUCCESS;
}

static nvmlReturn_t noted(nvmlDevice_t device, const char *what) {
    char uuid[NVML_DEVICE_UUID_BUFFER_SIZE];
    const char *path = setting("MOCK_NVML_CLOCKS_FILE", NULL);
    FILE *file = path ? fopen(path, "a") : NULL;
    nvmlDeviceGetUUID(device, uuid, sizeof uuid);
    if (file) {
        fprintf(file, what[0] == 'l' ? "lock %s %s\n" : "reset %s\n", uuid, what + 5);
        fclose(file);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned int least, unsigned int most) {
    char what[64];
    BOARD;
    snprintf(what, sizeof what, "lock %u %u", least, most);
    return noted(device, what);
}

nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device) {
    BOARD;
    return noted(device, "reset");
}
