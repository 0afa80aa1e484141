/* Marks what the shared library exports and what a caller must not ignore. */
#ifndef THALWEG_EXPORT_H
#define THALWEG_EXPORT_H

#define TW_API __attribute__((visibility("default")))
#define TW_NODISCARD __attribute__((warn_unused_result))
#define TW_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#ifdef __cplusplus
#define TW_C_BEGIN extern "C" {
#define TW_C_END }
#else
#define TW_C_BEGIN
#define TW_C_END
#endif

#endif
