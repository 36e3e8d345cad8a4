/* A stand-in for NVIDIA's libnvidia-ml.so.1 whose readings come from a script.
 *
 * The script is the file that the environment variable NVML_STUB names: one `key value` a line, no
 * empty lines; nvml_stub.py lists the keys and their units. Every call reads it anew, whole and
 * onto its own stack: a running process sees changes, and threads share nothing but the count of
 * users. A call whose key is absent is not supported; where the value is `error:N` it returns
 * NVML's code N. Codes, structures and constants are those of nvml.h. */

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
    UNKNOWN = 999, /* here: the script is malformed */
} Code;

enum { EVENT_XID = 8, SCOPE_MODULE = 1, CLOCK_SM = 1, SENSOR_GPU = 0, FIELD_POWER_INSTANT = 186, TYPE_UNSIGNED_INT = 1 };
static const uint64_t MEMORY_NOT_AVAILABLE = UINT64_MAX;
static const uint32_t NO_INSTANCE = UINT32_MAX; /* the GPU is not partitioned (MIG) */
static const double MIB = 1024 * 1024;

/* A GPU's index, or that of an instance (MIG): the GPU's and its own number + 1 shifted by INSTANCE.
 * A handle is this + 1, so that none is NULL. */
typedef struct device *Device;
enum { INSTANCE = 16, MOST_INSTANCES = 7 };
typedef struct { uint64_t total, free, used; } Memory; /* bytes */
typedef struct { uint32_t gpu, memory; } Utilization;  /* percent */
typedef struct { uint32_t pid; uint64_t used; uint32_t gpu_instance, compute_instance; } Process;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    uint32_t value_type, code;
    union { double d; uint32_t ui; uint64_t ull; } value;
} FieldValue;

typedef struct { Device device; uint64_t type, xid; uint32_t gpu_instance, compute_instance; } Event;
typedef struct { Device device; unsigned seen; } *EventSet; /* `seen`: of the device's Xids */

typedef struct { char lines[16384]; } Script; /* each ends with a zero byte; an empty one is last */

static atomic_int users; /* calls of nvmlInit less those of nvmlShutdown */

#define TRY(call) do { Code code_ = (call); if (code_) return code_; } while (0)

static Code read_script(Script *script) {
    const char *path = getenv("NVML_STUB");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return DRIVER_NOT_LOADED;
    memset(script, 0, sizeof *script);
    ssize_t length = read(file, script->lines, sizeof script->lines);
    close(file);
    for (char *c = script->lines; c < script->lines + length; c++)
        if (*c == '\n')
            *c = '\0';
    return length < 0 || length > (ssize_t)sizeof script->lines - 2 ? UNKNOWN : SUCCESS;
}

static Code text(const Script *script, const char *key, const char **value) {
    size_t length = strlen(key);
    for (const char *line = script->lines; *line; line += strlen(line) + 1)
        if (!strncmp(line, key, length) && line[length] == ' ') {
            unsigned code;
            *value = line + length + 1;
            return sscanf(*value, "error:%u", &code) == 1 ? code : SUCCESS;
        }
    return NOT_SUPPORTED;
}

static Code gpu_text(const Script *script, unsigned index, const char *name, const char **value) {
    char key[64];
    unsigned gpu = index & ((1u << INSTANCE) - 1), instance = index >> INSTANCE;
    if (instance)
        snprintf(key, sizeof key, "gpu%u.mig%u.%s", gpu, instance - 1, name);
    else
        snprintf(key, sizeof key, "gpu%u.%s", gpu, name);
    return text(script, key, value);
}

static Code gpu_number(const Script *script, unsigned index, const char *name, double *number) {
    const char *value;
    char *end;
    TRY(gpu_text(script, index, name, &value));
    *number = strtod(value, &end);
    return end == value || *end ? UNKNOWN : SUCCESS;
}

static unsigned count_gpus(const Script *script) {
    const char *uuid;
    unsigned count = 0;
    while (gpu_text(script, count, "uuid", &uuid) != NOT_SUPPORTED)
        count++;
    return count;
}

static Code begin(Script *script) {
    return atomic_load(&users) ? read_script(script) : UNINITIALIZED;
}

static Code begin_device(Device device, Script *script, unsigned *index) {
    double lost;
    const char *uuid;
    *index = (unsigned)(uintptr_t)device - 1;
    TRY(begin(script));
    if (gpu_text(script, *index, "uuid", &uuid) == NOT_SUPPORTED)
        return *index >> INSTANCE ? NOT_FOUND : INVALID_ARGUMENT;
    Code code = gpu_number(script, *index, "lost", &lost);
    if (code == NOT_SUPPORTED)
        return SUCCESS;
    return code ? code : lost ? GPU_IS_LOST : SUCCESS;
}

static Code copy(const char *value, char *buffer, unsigned size) {
    return (unsigned)snprintf(buffer, size, "%s", value) < size ? SUCCESS : INSUFFICIENT_SIZE;
}

static Code device_text(Device device, const char *name, char *buffer, unsigned size) {
    Script script;
    unsigned index;
    const char *value;
    TRY(begin_device(device, &script, &index));
    TRY(gpu_text(&script, index, name, &value));
    return copy(value, buffer, size);
}

static Code device_number(Device device, const char *name, double *number) {
    Script script;
    unsigned index;
    TRY(begin_device(device, &script, &index));
    return gpu_number(&script, index, name, number);
}

static Code device_unsigned(Device device, const char *name, double factor, unsigned *result) {
    double number;
    TRY(device_number(device, name, &number));
    *result = (unsigned)(number * factor + 0.5);
    return SUCCESS;
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* ---- what pynvml looks up; parameters as in nvml.h ---- */

Code nvmlInitWithFlags(unsigned flags) {
    Script script;
    const char *value;
    (void)flags;
    TRY(read_script(&script));
    Code code = text(&script, "init", &value);
    if (code != SUCCESS && code != NOT_SUPPORTED) /* without the key it succeeds */
        return code;
    atomic_fetch_add(&users, 1);
    return SUCCESS;
}

Code nvmlShutdown(void) {
    int before = atomic_load(&users);
    while (before && !atomic_compare_exchange_weak(&users, &before, before - 1))
        ;
    return before ? SUCCESS : UNINITIALIZED;
}

/* pynvml has texts of its own for the usual codes and asks for those of the rest. */
const char *nvmlErrorString(Code code) {
    (void)code;
    return "an error of the NVML stub's script";
}

Code nvmlSystemGetDriverVersion(char *version, unsigned size) {
    Script script;
    const char *value;
    TRY(begin(&script));
    TRY(text(&script, "driver", &value));
    return copy(value, version, size);
}

Code nvmlDeviceGetCount_v2(unsigned *count) {
    Script script;
    TRY(begin(&script));
    *count = count_gpus(&script);
    return SUCCESS;
}

Code nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    Script script;
    *device = (Device)((uintptr_t)index + 1);
    return begin_device(*device, &script, &index);
}

Code nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    Script script;
    const char *own;
    TRY(begin(&script));
    for (unsigned gpu = 0; gpu < count_gpus(&script); gpu++)
        for (unsigned instance = 0; instance <= MOST_INSTANCES; instance++) {
            unsigned index = gpu | instance << INSTANCE; /* the first is the GPU itself */
            if (!gpu_text(&script, index, "uuid", &own) && !strcmp(own, uuid))
                return nvmlDeviceGetHandleByIndex_v2(index, device);
        }
    return NOT_FOUND;
}

Code nvmlDeviceGetMigMode(Device device, unsigned *now, unsigned *after_reset) {
    TRY(device_unsigned(device, "mig_mode", 1, now));
    *after_reset = *now;
    return SUCCESS;
}

Code nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    Script script;
    unsigned index;
    *count = MOST_INSTANCES;
    return begin_device(device, &script, &index);
}

Code nvmlDeviceGetMigDeviceHandleByIndex(Device gpu, unsigned number, Device *instance) {
    Script script;
    unsigned index;
    TRY(begin_device(gpu, &script, &index));
    return nvmlDeviceGetHandleByIndex_v2(index | (number + 1) << INSTANCE, instance);
}

Code nvmlDeviceGetVirtualizationMode(Device device, unsigned *mode) {
    return device_unsigned(device, "virtualization_mode", 1, mode);
}

Code nvmlDeviceGetIndex(Device device, unsigned *index) {
    Script script;
    return begin_device(device, &script, index);
}

Code nvmlDeviceGetUUID(Device device, char *uuid, unsigned size) {
    return device_text(device, "uuid", uuid, size);
}
Code nvmlDeviceGetName(Device device, char *name, unsigned size) {
    return device_text(device, "name", name, size);
}

Code nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    Script script;
    unsigned index;
    double total, used;
    TRY(begin_device(device, &script, &index));
    TRY(gpu_number(&script, index, "memory_total_mib", &total));
    TRY(gpu_number(&script, index, "memory_used_mib", &used));
    *memory = (Memory){.total = total * MIB, .free = (total - used) * MIB, .used = used * MIB};
    return SUCCESS;
}

/* Entries `pid:MiB`, or `pid:-` where the memory is not available. `count`: in, the room in
 * `processes`; out, how many there are. */
Code nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    Script script;
    unsigned index, pid, room = *count;
    const char *entry;
    char memory[32];
    int length;
    TRY(begin_device(device, &script, &index));
    TRY(gpu_text(&script, index, "processes", &entry));
    *count = 0;
    for (; sscanf(entry, " %u:%31s%n", &pid, memory, &length) == 2; entry += length)
        if ((*count)++ < room) {
            uint64_t used = strcmp(memory, "-") ? strtod(memory, NULL) * MIB : MEMORY_NOT_AVAILABLE;
            processes[*count - 1] = (Process){pid, used, NO_INSTANCE, NO_INSTANCE};
        }
    return *entry ? UNKNOWN : *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* Each field has its own code; the call itself fails for the whole GPU only. */
Code nvmlDeviceGetFieldValues(Device device, int count, FieldValue *fields) {
    Script script;
    unsigned index;
    double watts = 0;
    TRY(begin_device(device, &script, &index));
    for (FieldValue *field = fields; field < fields + count; field++) {
        field->timestamp_us = seconds(CLOCK_REALTIME) * 1e6;
        field->value_type = TYPE_UNSIGNED_INT;
        const char *key = field->scope == SCOPE_MODULE ? "module_power_w" : "power_instant_w";
        field->code = field->field == FIELD_POWER_INSTANT
            ? gpu_number(&script, index, key, &watts) : NOT_SUPPORTED;
        field->value.ui = field->code ? 0 : watts * 1000 + 0.5; /* mW */
    }
    return SUCCESS;
}

/* The Xid that comes after the first `skip`; NOT_FOUND if there is none. */
static Code read_xid(Device device, unsigned skip, uint64_t *xid) {
    Script script;
    const char *list;
    char *end;
    TRY(begin(&script));
    TRY(gpu_text(&script, (unsigned)(uintptr_t)device - 1, "xids", &list));
    for (;; skip--, list = end) {
        *xid = strtoul(list, &end, 10);
        if (end == list || !skip)
            return end == list ? NOT_FOUND : SUCCESS;
    }
}

Code nvmlEventSetCreate(EventSet *set) {
    *set = calloc(1, sizeof **set);
    return SUCCESS;
}

Code nvmlEventSetFree(EventSet set) {
    free(set);
    return SUCCESS;
}

/* What the script tells already is past. */
Code nvmlDeviceRegisterEvents(Device device, uint64_t types, EventSet set) {
    Script script;
    unsigned index;
    uint64_t xid;
    const char *list;
    TRY(begin_device(device, &script, &index));
    TRY(gpu_text(&script, index, "xids", &list));
    set->device = device;
    while (read_xid(device, set->seen, &xid) == SUCCESS)
        set->seen++;
    return types == EVENT_XID ? SUCCESS : NOT_SUPPORTED;
}

/* It never waits: a reading asks with a timeout of 0. A lost GPU still tells its Xid. */
Code nvmlEventSetWait_v2(EventSet set, Event *event, unsigned timeout_ms) {
    (void)timeout_ms;
    *event = (Event){.device = set->device, .type = EVENT_XID};
    if (read_xid(set->device, set->seen, &event->xid) != SUCCESS)
        return TIMEOUT;
    set->seen++;
    return SUCCESS;
}

/* Linear in time, as if the GPU had drawn this power since the clock's zero. */
Code nvmlDeviceGetTotalEnergyConsumption(Device device, uint64_t *millijoules) {
    double watts;
    TRY(device_number(device, "energy_w", &watts));
    *millijoules = watts * seconds(CLOCK_MONOTONIC) * 1000;
    return SUCCESS;
}

Code nvmlDeviceGetCurrentClocksEventReasons(Device device, uint64_t *reasons) {
    double mask;
    TRY(device_number(device, "event_reasons", &mask));
    *reasons = mask;
    return SUCCESS;
}

/* The name that drivers before 535 know; they lack the one above (`event_reasons error:13`). */
Code nvmlDeviceGetCurrentClocksThrottleReasons(Device device, uint64_t *reasons) {
    double mask;
    Code code = device_number(device, "throttle_reasons", &mask);
    if (code == NOT_SUPPORTED)
        return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
    *reasons = code ? 0 : mask;
    return code;
}

Code nvmlDeviceGetPowerUsage(Device device, unsigned *mw) {
    return device_unsigned(device, "power_w", 1000, mw);
}
Code nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *mw) {
    return device_unsigned(device, "power_limit_w", 1000, mw);
}
Code nvmlDeviceGetPowerManagementDefaultLimit(Device device, unsigned *mw) {
    return device_unsigned(device, "power_default_limit_w", 1000, mw);
}
Code nvmlDeviceGetUtilizationRates(Device device, Utilization *utilization) {
    utilization->memory = 0;
    return device_unsigned(device, "utilisation_pct", 1, &utilization->gpu);
}
Code nvmlDeviceGetClockInfo(Device device, unsigned clock, unsigned *mhz) {
    return clock == CLOCK_SM ? device_unsigned(device, "sm_clock_mhz", 1, mhz) : NOT_SUPPORTED;
}
Code nvmlDeviceGetApplicationsClock(Device device, unsigned clock, unsigned *mhz) {
    return clock == CLOCK_SM ? device_unsigned(device, "app_clock_mhz", 1, mhz) : NOT_SUPPORTED;
}
Code nvmlDeviceGetDefaultApplicationsClock(Device device, unsigned clock, unsigned *mhz) {
    return clock == CLOCK_SM ? device_unsigned(device, "app_clock_default_mhz", 1, mhz) : NOT_SUPPORTED;
}
Code nvmlDeviceGetTemperature(Device device, unsigned sensor, unsigned *c) {
    return sensor == SENSOR_GPU ? device_unsigned(device, "temperature_c", 1, c) : NOT_SUPPORTED;
}
