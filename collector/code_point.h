/*
 * Text of others, code point by code point: how much it is, and what of it may stand in one line. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CODE_POINT_H
#define FLEETSTATE_COLLECTOR_CODE_POINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODE_POINT_NONE 0xfffd	/* U+FFFD, what stands for what is none */

/* The one at `at`, where at least one byte is left, and its length; bytes that are no UTF-8 are taken one by one, as CODE_POINT_NONE. */
uint32_t code_point(const uint8_t *at, size_t left, size_t *len);
/* How many characters of UTF-8. */
size_t code_points(const char *at, size_t len);
/* C0, DEL, C1, the line and paragraph separators: what may end a line for somebody. And what turns the direction of text around. */
bool code_point_is_control(uint32_t);

#endif
