/*
 * A PKCS#11 module that is another one, except that a file can make it slow, failing or dead. A line of the file:
 *   <CK_RV> <delay in ms> <loaded before, ms since the epoch>
 * The return value is that of C_SignInit, C_OpenSession and C_GetTokenInfo (0: the real one's; 0xDEAD: the process aborts);
 * the delay stands before C_Sign and C_GetTokenInfo. Both are for processes alone that loaded the module before that time.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType(*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

static CK_FUNCTION_LIST_PTR real;
static CK_FUNCTION_LIST list;
static long long loaded;

static long long now_ms(void) {
  struct timeval tv;
  gettimeofday(&tv, NULL);
  return (long long)tv.tv_sec * 1000 + tv.tv_usec / 1000;
}

static CK_RV fault(int delays) {
  unsigned long rv = 0;
  long delay = 0;
  long long before = 0;
  const char *path = getenv("PKCS11_FAULTS");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return CKR_OK;
  int read = fscanf(file, "%lx %ld %lld", &rv, &delay, &before);
  fclose(file);
  if (read != 3 || loaded >= before) return CKR_OK;
  if (rv == 0xDEAD) abort();
  if (delays && delay > 0) {
    struct timespec pause = {delay / 1000, (delay % 1000) * 1000000L};
    nanosleep(&pause, NULL);
  }
  return rv;
}

static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key) {
  CK_RV rv = fault(0);
  return rv == CKR_OK ? real->C_SignInit(session, mechanism, key) : rv;
}

static CK_RV sign_data(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG_PTR out_length) {
  fault(1);
  return real->C_Sign(session, data, length, out, out_length);
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR session) {
  CK_RV rv = fault(0);
  return rv == CKR_OK ? real->C_OpenSession(slot, flags, application, notify, session) : rv;
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
  CK_RV rv = fault(1);
  return rv == CKR_OK ? real->C_GetTokenInfo(slot, info) : rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out) {
  const char *path = getenv("PKCS11_REAL_MODULE");
  void *library = path ? dlopen(path, RTLD_NOW) : NULL;
  CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
  if (!get || get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
  loaded = now_ms();
  memcpy(&list, real, sizeof list);
  list.C_SignInit = sign_init;
  list.C_Sign = sign_data;
  list.C_OpenSession = open_session;
  list.C_GetTokenInfo = token_info;
  *out = &list;
  return CKR_OK;
}
