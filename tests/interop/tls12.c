/* Preloaded into coturn's clients: they draw by lot among TLS 1.0 to 1.3 for each connection, and we
 * speak 1.2 and 1.3. With this they always offer all they have. */
struct ssl_method_st;
const struct ssl_method_st *TLS_client_method(void);
const struct ssl_method_st *DTLS_client_method(void);
const struct ssl_method_st *TLSv1_client_method(void);
const struct ssl_method_st *TLSv1_1_client_method(void);
const struct ssl_method_st *DTLSv1_client_method(void);

const struct ssl_method_st *TLSv1_client_method(void)
{
    return TLS_client_method();
}

const struct ssl_method_st *TLSv1_1_client_method(void)
{
    return TLS_client_method();
}

const struct ssl_method_st *DTLSv1_client_method(void)
{
    return DTLS_client_method();
}
