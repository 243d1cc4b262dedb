// SPDX-License-Identifier: MIT
// Headers of glibc 2.38 and later ask for C23's strtol() and strtoul() by names that older ones lack, in libfastio
// and in the static libstdc++ alike. The decimal numbers that are read here mean the same to both, so that the addon
// loads on glibc 2.35, too. On older build machines nobody calls these.

extern "C" {

long PlainStrtol(const char* text, char** end, int base) __asm__("strtol");
unsigned long PlainStrtoul(const char* text, char** end, int base) __asm__("strtoul");

long __isoc23_strtol(const char* text, char** end, int base) { return PlainStrtol(text, end, base); }

unsigned long __isoc23_strtoul(const char* text, char** end, int base) { return PlainStrtoul(text, end, base); }

}
