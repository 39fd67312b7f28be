/*
 * banned: calls that have no place in an MPI program that must answer for its bounds and exits.
 *
 * Included by the compiler before every file of the product.  The standard headers come first, so
 * that their own declarations are seen before the names turn into errors.
 */
#ifndef MT_BASE_BANNED_H
#define MT_BASE_BANNED_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MT_BANNED(name) mt_banned_call_##name
#undef assert
#define assert(x) MT_BANNED(assert)
#undef strcpy
#define strcpy(a, b) MT_BANNED(strcpy)
#undef strcat
#define strcat(a, b) MT_BANNED(strcat)
#undef sprintf
#define sprintf(...) MT_BANNED(sprintf)
#undef strtok
#define strtok(a, b) MT_BANNED(strtok)
#undef atoi
#define atoi(a) MT_BANNED(atoi)
#undef atof
#define atof(a) MT_BANNED(atof)
#undef rand
#define rand() MT_BANNED(rand)
#undef exit
#define exit(a) MT_BANNED(exit)
#undef abort
#define abort() MT_BANNED(abort)

#endif
