/* An HTTP/1.1 load generator for loopback: keep-alive connections, evenly spaced or back to back.

   usage: load PORT HOST PATH CONNECTIONS SECONDS RATE

   RATE > 0: request k is due at start + k / RATE, on connection k % CONNECTIONS; latency counts from
   the due moment, so a stall is not hidden by requests that were never sent. RATE 0: closed loop,
   each connection sends again as soon as it is answered. SIGTERM ends it early. Prints one JSON
   object, latencies in ms, and the first answers that are not 200 on standard error. Answers need a
   Content-Length. At most 256 connections and an hour. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 256, MAX_SAMPLES = 8000000, BUFFER = 65536, SHOWN = 10 };

typedef struct {
    int fd, busy, length, needed;
    uint64_t due, next;
    char buffer[BUFFER];
} Connection;

static Connection *connections;
static char request[1024];
static int request_length, count, poller;
static uint64_t *samples, sent, done, failed;
static double began;
static volatile sig_atomic_t stopped;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void stop(int number) {
    (void)number;
    stopped = 1;
}

static void die(const char *what) {
    perror(what);
    exit(3);
}

static void send_request(Connection *c, uint64_t due) {
    c->due = due;
    c->busy = 1;
    c->length = c->needed = 0;
    sent++;
    if (write(c->fd, request, request_length) != request_length) die("write");
}

static void dial(Connection *c, uint32_t index, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (void *)&to, sizeof to)) die("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

/* Read what came; whether the answer is whole. */
static int read_answer(Connection *c) {
    int got = read(c->fd, c->buffer + c->length, BUFFER - 1 - c->length);
    if (got <= 0) die("connection closed");
    c->length += got;
    c->buffer[c->length] = 0;
    if (!c->needed) {
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end) return 0;
        char *size = strcasestr(c->buffer, "\r\ncontent-length:");
        if (!size || size > end) {
            fprintf(stderr, "no content-length in: %.200s\n", c->buffer);
            exit(4);
        }
        c->needed = (end + 4 - c->buffer) + atoi(size + 17);
    }
    return c->length >= c->needed;
}

static void record(Connection *c, uint64_t at) {
    if (done < MAX_SAMPLES) samples[done] = at - c->due;
    done++;
    if (strncmp(c->buffer + 9, "200", 3) && failed++ < SHOWN)
        fprintf(stderr, "not 200 after %.3f s: %.300s\n", at / 1e9 - began, c->buffer);
    c->busy = 0;
}

static double percentile(double share) {
    uint64_t kept = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    return kept ? samples[(uint64_t)((kept - 1) * share)] / 1e6 : 0;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: load PORT HOST PATH CONNECTIONS SECONDS RATE\n");
        return 64;
    }
    count = atoi(argv[4]);
    double seconds = atof(argv[5]), rate = atof(argv[6]);
    if (count < 1 || count > MAX_CONNECTIONS || seconds <= 0 || seconds > 3600) return 64;
    signal(SIGTERM, stop);
    request_length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", argv[3], argv[2]);
    connections = calloc(count, sizeof *connections);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    poller = epoll_create1(0);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    for (int i = 0; i < count; i++) dial(&connections[i], i, atoi(argv[1]));

    uint64_t interval = rate > 0 ? 1e9 / rate : 0, total = rate > 0 ? rate * seconds : 0;
    uint64_t start = now() + 20000000, end = start + seconds * 1e9, limit = end + 5000000000ull;
    began = start / 1e9;
    for (int i = 0; i < count; i++) connections[i].next = i;
    for (;;) {
        uint64_t t = now(), soonest = limit;
        int busy = 0;
        if (stopped && end > t) {
            end = t;
            limit = t + 5000000000ull;
            total = 0;
        }
        for (int i = 0; i < count; i++) {
            Connection *c = &connections[i];
            if (!c->busy && interval && c->next < total) {
                uint64_t due = start + c->next * interval;
                if (due <= t) {
                    send_request(c, due);
                    c->next += count;
                } else if (due < soonest)
                    soonest = due;
            } else if (!c->busy && !interval && t < end) {
                send_request(c, t);
            }
            busy += c->busy || (interval && c->next < total);
        }
        if (!busy || t > limit) break;
        t = now();
        uint64_t wait = soonest > t ? soonest - t : 0;
        struct timespec timeout = {wait / 1000000000ull, wait % 1000000000ull};
        struct epoll_event events[64];
        int ready = epoll_pwait2(poller, events, 64, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            Connection *c = &connections[events[i].data.u32];
            if (read_answer(c)) record(c, now());
        }
    }
    uint64_t missing = (total > sent ? total : sent) - done;
    double elapsed = (now() - start) / 1e9;
    uint64_t kept = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    qsort(samples, kept, sizeof *samples, ascending);
    printf("{\"requests\": %llu, \"failed\": %llu, \"missing\": %llu, \"per_second\": %.1f, \"p50\": %.4f, \"p99\": %.4f, \"max\": %.4f}\n",
           (unsigned long long)done, (unsigned long long)failed, (unsigned long long)missing, done / elapsed,
           percentile(0.5), percentile(0.99), percentile(1));
    return failed || missing;
}
