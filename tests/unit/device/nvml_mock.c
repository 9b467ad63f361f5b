/* A libnvidia-ml.so.1 without a GPU, compiled against the official nvml.h and driven by the environment:
 *
 *   MOCK_NVML_COUNT               number of GPUs (1)
 *   MOCK_NVML_NAME                product name ("NVIDIA Mock 80GB"); MOCK_NVML_NAME_2 for the GPU of index 2 only
 *   MOCK_NVML_POWER_LIMIT_MW      power limit in mW (300000); MOCK_NVML_POWER_LIMIT_MW_2
 *   MOCK_NVML_DRIVER              driver version ("580.65.06")
 *   MOCK_NVML_CUDA                CUDA version of the driver (13000)
 *   MOCK_NVML_ERROR_<function>    return code of that function, e.g. MOCK_NVML_ERROR_nvmlInitWithFlags=18
 *
 * The UUID of GPU 2 is GPU-00000002-1111-2222-3333-444444444444. As in the real library nothing works before nvmlInit
 * or after the last nvmlShutdown, a handle is checked, and a buffer that is too small is an error.
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS /* leaves nvmlInit and the like as they are: the versioned symbols are defined here */
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16

struct nvmlDevice_st {
    unsigned index;
};

static struct nvmlDevice_st devices[MOST];
static int users;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static const char *device_setting(const char *name, unsigned index, const char *otherwise) {
    char own[64];
    snprintf(own, sizeof own, "%s_%u", name, index);
    return setting(own, setting(name, otherwise));
}

static nvmlReturn_t told(const char *function) {
    char name[128];
    snprintf(name, sizeof name, "MOCK_NVML_ERROR_%s", function);
    return (nvmlReturn_t)atoi(setting(name, "0"));
}

static unsigned count(void) {
    unsigned number = (unsigned)atoi(setting("MOCK_NVML_COUNT", "1"));
    return number < MOST ? number : MOST;
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
        if (device < devices || device >= devices + count())                                                           \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
    } while (0)

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    TOLD;
    for (unsigned index = 0; index < MOST; index++)
        devices[index].index = index;
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
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    char value[NVML_DEVICE_UUID_BUFFER_SIZE];
    DEVICE;
    snprintf(value, sizeof value, "GPU-%08u-1111-2222-3333-444444444444", device->index);
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

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    DEVICE;
    return text(name, length, device_setting("MOCK_NVML_NAME", device->index, "NVIDIA Mock 80GB"));
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int *limit_mw) {
    DEVICE;
    *limit_mw = (unsigned)atoi(device_setting("MOCK_NVML_POWER_LIMIT_MW", device->index, "300000"));
    return NVML_SUCCESS;
}
