/*
 * The files of assets.def as they lie in the binary: for each row two symbols, the first byte and the one behind the last.
 */
#ifndef FLEETSTATE_COLLECTOR_ASSETS_H
#define FLEETSTATE_COLLECTOR_ASSETS_H

#include <stdint.h>

#define MIGRATION(number, path) extern const uint8_t asset_migration_##number[], asset_migration_##number##_end[];
#define ASSET(symbol, path, url, type) extern const uint8_t asset_##symbol[], asset_##symbol##_end[];
#include "collector/assets.def"
#undef MIGRATION
#undef ASSET

#endif
