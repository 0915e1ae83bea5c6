/*
 * What simulated devices are: a few models of two makers, each with a row of firmware versions, and the inventory of each of those. All devices of
 * one model and firmware share one inventory, as a real fleet does. Everything follows from the tables.
 */
#ifndef FLEETSTATE_SIM_WORLD_H
#define FLEETSTATE_SIM_WORLD_H

#include "emitter/collect.h"
#include "schema/report.h"
#include "schema/topics.h"

#define FIRMWARES 4	/* versions of each model, oldest first */

struct model {
	const char *vendor, *name, *hwversion, *architecture, *cpu;
	unsigned processors, memory_mb, packages;	/* packages: of the table, how many it has */
	const char *boot;	/* uefi or device-tree */
	const char *tpm;
	const char *firmware[FIRMWARES];
	const char *kernel[FIRMWARES];
};

extern const struct model models[];
extern const size_t models_len;

/* The inventory of a model's firmware, made when first asked for; it lives as long as the program. NULL when memory ran out. */
const struct inventory *world_inventory(size_t model, size_t firmware);

/* How one device is just now. */
struct condition {
	size_t model, firmware;
	bool secure, telnet, weak_boot, unsynchronised;
	unsigned long reports;	/* in this boot */
	uint32_t interval;
	struct ueid ueid;
};

/* Sets every fact of the table: known, or unknown with a reason. */
void world_facts(const struct condition *, struct facts *);

/* Pseudo-random numbers that follow from their seed (splitmix64). */
uint64_t world_random(uint64_t *state);

#endif
