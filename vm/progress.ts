/** What long work tells whoever watches it. Renderers in cli/ must cover every kind to compile. */
export type Progress =
  | { readonly kind: 'stage'; readonly name: string; readonly detail?: string }
  | {
      /** Bytes moved so far in a named transfer; `totalBytes` is 0 while unknown. */
      readonly kind: 'transfer';
      readonly name: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
      readonly items?: { readonly done: number; readonly total: number };
    }
  | { readonly kind: 'line'; readonly from: 'host' | 'guest' | 'kernel' | 'build'; readonly text: string }
  | { readonly kind: 'warning'; readonly message: string; readonly remedy: string };

export type Report = (event: Progress) => void;

/** For callers that do not watch. */
export const silent: Report = () => undefined;
