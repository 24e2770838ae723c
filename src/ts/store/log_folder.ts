/** Folder of the log within a store's data folder. */
export const LOG_FOLDER = 'log';
