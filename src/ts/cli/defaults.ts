/** Where the tools look for the global configuration, relative to the working directory. */
export const GLOBAL_CONFIG_PATH = './etc/globalconfig.conf';
