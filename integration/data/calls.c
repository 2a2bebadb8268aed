/* The payload of the seccomp cases: makes the system calls that its arguments name and prints one
 * line for each. Without libc, so that no other call than these, write, exit and what a prefix
 * needs is ever made.
 *
 *   NR[,ARG]...     the native call; prints what it returns
 *   x86:SPEC        through int 0x80, the gate of 32-bit programs
 *   fork:SPEC       in a child; prints then `exit N` or `signal N`
 *   thread:SPEC     in a second thread; prints then `thread ended`
 *   trap:SPEC       in a child that handles SIGSYS: prints `trap NR DATA`
 *   traced:SPEC     in a traced child: prints `event DATA` when seccomp tells the tracer
 *   usr1:SPEC       with a handler for SIGUSR1 that does nothing
 */
typedef unsigned long word;

#if defined(__x86_64__)
enum { WRITE = 1, SIGACTION = 13, SLEEP = 35, GETPID = 39, CLONE = 56, EXIT = 60, WAIT4 = 61, KILL = 62, PTRACE = 101,
       EXIT_GROUP = 231 };
__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\n"
        ".globl restore\nrestore: mov $15, %eax\nsyscall\n");
static long native(word nr, const word *a) {
    long ret;
    register word r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
static long gate32(word nr, const word *a) {
    long ret;
    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)ret;
}
/* The child takes the function off its stack. */
static long clone_thread(word flags, word *stack, volatile int *tid) {
    long ret;
    register word r10 __asm__("r10") = (word)tid, r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\ntest %%rax, %%rax\njnz 1f\npop %%rax\ncall *%%rax\n1:" : "=a"(ret)
                     : "a"((word)CLONE), "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
enum { WRITE = 64, SIGACTION = 134, SLEEP = 101, GETPID = 172, CLONE = 220, EXIT = 93, WAIT4 = 260, KILL = 129,
       PTRACE = 117, EXIT_GROUP = 94 };
__asm__(".globl _start\n_start: mov x0, sp\nbl begin\n.globl restore\nrestore: mov x8, #139\nsvc #0\n");
static long native(word nr, const word *a) {
    register word x8 __asm__("x8") = nr, x0 __asm__("x0") = a[0], x1 __asm__("x1") = a[1], x2 __asm__("x2") = a[2],
                  x3 __asm__("x3") = a[3], x4 __asm__("x4") = a[4], x5 __asm__("x5") = a[5];
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return (long)x0;
}
static long gate32(word nr, const word *a) { (void)nr, (void)a; return -38; }
static long clone_thread(word flags, word *stack, volatile int *tid) {
    register word x8 __asm__("x8") = CLONE, x0 __asm__("x0") = flags, x1 __asm__("x1") = (word)stack,
                  x2 __asm__("x2") = 0, x3 __asm__("x3") = 0, x4 __asm__("x4") = (word)tid;
    __asm__ volatile("svc #0\ncbnz x0, 1f\nldr x1, [sp], #16\nblr x1\n1:" : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "x30");
    return (long)x0;
}
#endif

extern void restore(void);

static long call(word nr, word a, word b, word c, word d) {
    word args[6] = {a, b, c, d, 0, 0};
    return native(nr, args);
}

/* One write a line, so that lines of several processes never mix. */
static void say(const char *label, long one, long two, int numbers) {
    char line[96];
    int at = 0;
    while (*label) line[at++] = *label++;
    for (int i = 0; i < numbers; i++) {
        long value = i ? two : one;
        word rest = value < 0 ? 0 - (word)value : (word)value;
        char digits[24];
        int count = 0;
        do digits[count++] = '0' + rest % 10; while (rest /= 10);
        if (at) line[at++] = ' ';
        if (value < 0) line[at++] = '-';
        while (count) line[at++] = digits[--count];
    }
    line[at++] = '\n';
    call(WRITE, 1, (word)line, at, 0);
}

static word number(const char **text) {
    word value = 0, base = 10;
    if ((*text)[0] == '0' && (*text)[1] == 'x') base = 16, *text += 2;
    for (;; ++*text) {
        char c = **text;
        word digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
        if (digit >= base) return value;
        value = value * base + digit;
    }
}

static const char *after(const char *text, const char *prefix) {
    while (*prefix) if (*text++ != *prefix++) return 0;
    return text;
}

static void make_calls(const char *spec);

static void single(const char *spec, long (*gate)(word, const word *)) {
    word nr = number(&spec), args[6] = {0, 0, 0, 0, 0, 0};
    for (int i = 0; i < 6 && *spec == ','; i++) spec++, args[i] = number(&spec);
    say("", gate(nr, args), 0, 1);
}

static void wait_for(long pid) {
    int status = 0;
    call(WAIT4, pid, (word)&status, 0, 0);
    if (status & 0x7f) say("signal", status & 0x7f, 0, 1);
    else say("exit", status >> 8 & 0xff, 0, 1);
}

static long fork_child(void) { return call(CLONE, 17, 0, 0, 0); }

static const char *thread_spec;
static volatile int thread_id;
static word thread_stack[4096] __attribute__((aligned(16)));

static void thread_begin(void) {
    make_calls(thread_spec);
    call(EXIT, 0, 0, 0, 0);
}

static void thread(const char *spec) {
    /* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, CHILD_CLEARTID, CHILD_SETTID */
    word flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000 | 0x1000000;
#if defined(__x86_64__)
    word *stack = thread_stack + 4095;
#else
    word *stack = thread_stack + 4094;
#endif
    *stack = (word)thread_begin;
    thread_spec = spec;
    thread_id = 1;
    clone_thread(flags, stack, &thread_id);
    for (int i = 0; i < 2000 && thread_id; i++) {
        long millisecond[2] = {0, 1000000};
        call(SLEEP, (word)millisecond, 0, 0, 0);
    }
    say(thread_id ? "thread hangs" : "thread ended", 0, 0, 0);
}

static void handle(int signal, void (*handler)(int, void *, void *)) {
    /* sigaction as the kernel has it: handler, SA_SIGINFO | SA_RESTORER, restorer, mask. */
    word action[4] = {(word)handler, 0x4000004, (word)restore, 0};
#if defined(__aarch64__)
    action[2] = 0;
    action[1] = 4;
#endif
    call(SIGACTION, signal, (word)action, 0, 8);
}

static void on_sigsys(int signal, void *info, void *context) {
    (void)signal, (void)context;
    int *words = info;
    say("trap", words[6], words[1], 2);
    call(EXIT_GROUP, 0, 0, 0, 0);
}

static void on_usr1(int signal, void *info, void *context) { (void)signal, (void)info, (void)context; }

static void traced(const char *spec) {
    enum { TRACEME = 0, CONT = 7, SETOPTIONS = 0x4200, GETEVENTMSG = 0x4201, TRACESECCOMP = 0x80, EVENT = 7 };
    int status = 0;
    long pid = fork_child();
    if (!pid) {
        call(PTRACE, TRACEME, 0, 0, 0);
        call(KILL, call(GETPID, 0, 0, 0, 0), 19, 0, 0);
        make_calls(spec);
        call(EXIT_GROUP, 0, 0, 0, 0);
    }
    call(WAIT4, pid, (word)&status, 0, 0);
    call(PTRACE, SETOPTIONS, pid, 0, TRACESECCOMP);
    call(PTRACE, CONT, pid, 0, 0);
    call(WAIT4, pid, (word)&status, 0, 0);
    if (status >> 8 == (5 | EVENT << 8)) {
        word data = 0;
        call(PTRACE, GETEVENTMSG, pid, 0, (word)&data);
        say("event", data, 0, 1);
        call(PTRACE, CONT, pid, 0, 0);
    }
    wait_for(pid);
}

static void make_calls(const char *spec) {
    const char *rest;
    if ((rest = after(spec, "x86:"))) single(rest, gate32);
    else if ((rest = after(spec, "thread:"))) thread(rest);
    else if ((rest = after(spec, "traced:"))) traced(rest);
    else if ((rest = after(spec, "usr1:"))) handle(10, on_usr1), make_calls(rest);
    else if ((rest = after(spec, "fork:")) || (rest = after(spec, "trap:"))) {
        long pid = fork_child();
        if (!pid) {
            if (spec[0] == 't') handle(31, on_sigsys);
            make_calls(rest);
            call(EXIT_GROUP, 0, 0, 0, 0);
        }
        wait_for(pid);
    } else single(spec, native);
}

void begin(word *stack) {
    for (word i = 1; i < stack[0]; i++) make_calls((const char *)stack[1 + i]);
    call(EXIT_GROUP, 0, 0, 0, 0);
}
